# Look over the headers of all slides, and whether annotations meet them: `--until preflight`.
rule preflight:
    input:
        inputs.surveyed,
    output:
        directory("results/preflight"),
    log:
        "logs/preflight.log",
    benchmark:
        "benchmarks/preflight.tsv"
    conda:
        "../envs/slides.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
    params:
        sheets=commands.surveyed_sheets(),
        rows=fingerprints.surveyed(),
        settings=commands.settings("preflight"),
    shell:
        "her2pipe preflight {output:q} {params.sheets:q} {params.settings} > {log:q} 2>&1"
