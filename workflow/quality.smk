# What the patch stores of a cohort say of its slides, and which are out of range.
rule quality:
    input:
        inputs.quality_stores,
    output:
        report(
            "results/quality/{cohort}.tsv",
            caption="report/quality.rst",
            category="Cohorts and slides",
            labels={"what": "quality of {cohort}"},
        ),
    log:
        "logs/quality/{cohort}.log",
    benchmark:
        "benchmarks/quality/{cohort}.tsv"
    conda:
        "../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(30),
    params:
        # A folder, not hundreds of files: a command has a greatest length.
        stores=lambda wildcards, input: os.path.dirname(input[0]),
        sheet=inputs.sheet,
        labels=fingerprints.cohort("quality"),
        settings=commands.settings("quality"),
    shell:
        "her2pipe quality {params.stores:q} --table {output:q} --sheet {params.sheet:q}"
        " {params.settings} > {log:q} 2>&1"
