# Draw a cohort of synthetic images.
rule draw:
    output:
        directory("results/draw/{cohort}"),
    log:
        "logs/draw/{cohort}.log",
    benchmark:
        "benchmarks/draw/{cohort}.tsv"
    conda:
        "../envs/slides.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        sheet=inputs.sheet,
        rows=fingerprints.cohort("draw"),
        settings=commands.settings("draw"),
    shell:
        "her2pipe draw {params.sheet:q} {output:q} {params.settings} > {log:q} 2>&1"
