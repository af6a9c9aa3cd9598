# How the patches of one cohort look by grade of p(HER2+), as one encoder grades them.
rule describe:
    input:
        model=inputs.model,
        encodings=inputs.cohort_encodings,
        stores=inputs.cohort_stores,
    output:
        directory("results/describe/{encoder}/{cohort}"),
    log:
        "logs/describe/{encoder}/{cohort}.log",
    benchmark:
        "benchmarks/describe/{encoder}/{cohort}.tsv"
    priority: -1  # nothing but the page waits for it: what `compare` needs comes first
    conda:
        "../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(120),
    params:
        # A folder, not hundreds of files: a command has a greatest length.
        stores=lambda wildcards, input: os.path.dirname(input.stores[0]),
        settings=commands.settings("describe"),
    shell:
        "her2pipe describe {input.encodings:q} {output:q} --stores {params.stores:q}"
        " --model {input.model:q} --cohort {wildcards.cohort:q}"
        " {params.settings} > {log:q} 2>&1"
