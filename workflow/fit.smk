# Fit a method's aggregation to the development cohort.
rule fit:
    input:
        development_folders,
    output:
        directory("results/fit/{method}"),
    log:
        "logs/fit/{method}.log",
    benchmark:
        "benchmarks/fit/{method}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lambda wildcards: 4 if fit_gpu(wildcards) else 1
    resources:
        gpu=fit_gpu,
        mem_mb=growing(8000),
        runtime=growing(720),
    params:
        sheet=lambda wildcards: SHEETS[development(wildcards)],
        labels=taught("patient", "split", *endpoint_of(STUDY.labels).columns),
        aggregate=lambda wildcards: STUDY.methods[wildcards.method].aggregate,
        settings=lambda wildcards: flags.to_flags(STUDY.split, STUDY.methods[wildcards.method].fit)
        + telling("reflex", "reflex_margin"),
    shell:
        "her2pipe fit {input:q} {output:q} --sheet {params.sheet:q} --threads {threads}"
        " --aggregate {params.aggregate} {params.settings} > {log:q} 2>&1"
