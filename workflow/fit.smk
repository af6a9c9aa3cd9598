# Fit a method's aggregation to the development cohort.
rule fit:
    input:
        encodings=inputs.development_encodings,
        folds=inputs.fold_encodings,
    output:
        directory("results/fit/{method}"),
    log:
        "logs/fit/{method}.log",
    benchmark:
        "benchmarks/fit/{method}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lambda wildcards: threads_for(commands.fit_device(wildcards), 4)
    resources:
        gpu=lambda wildcards: gpus(commands.fit_device(wildcards)),
        mem_mb=growing(8000),
        runtime=growing(720),
    params:
        sheet=inputs.development_sheet,
        labels=fingerprints.fit,
        aggregate=commands.aggregation,
        settings=commands.fit,
    shell:
        "her2pipe fit {input.encodings:q} {output:q} --fold-encodings {input.folds:q}"
        " --sheet {params.sheet:q} --threads {threads} --aggregate {params.aggregate}"
        " {params.settings} > {log:q} 2>&1"
