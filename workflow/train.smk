# Train an encoder on the development cohort, or on all of it but the slides of an inner fold.
rule train:
    input:
        stores=inputs.training_stores,
        files=inputs.training_files,
    output:
        directory("results/train/{encoder}"),
    log:
        "logs/train/{encoder}.log",
    benchmark:
        "benchmarks/train/{encoder}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=lambda wildcards: gpus(study.settings.encoders[inputs.encoder(wildcards)].device),
        mem_mb=growing(8000),
        runtime=growing(1440),
    params:
        stores=inputs.training_folders,
        sheet=inputs.development_sheet,
        labels=fingerprints.development("train"),
        network=fingerprints.network("train"),
        settings=commands.train,
    shell:
        "her2pipe train {params.stores:q} {output:q} --sheet {params.sheet:q} --threads {threads}"
        " {params.settings} > {log:q} 2>&1"
