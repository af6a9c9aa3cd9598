# Fit an encoder to the development cohort.
rule train:
    input:
        stores=training_stores,
        files=lambda wildcards: list(FILES[wildcards.encoder].values()),
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
        gpu=lambda wildcards: on_gpu(STUDY.encoders[wildcards.encoder].device),
        mem_mb=growing(8000),
        runtime=growing(1440),
    params:
        # Folders, not hundreds of files: a command has a greatest length.
        stores=lambda wildcards: [
            f"results/tile/{view}/{DEVELOPMENT}"
            for view in STUDY.encoders[wildcards.encoder].train_views
        ],
        sheet=SHEETS[DEVELOPMENT],
        labels=labels(DEVELOPMENT, "patient", "positive", "split"),
        settings=lambda wildcards: settings.flags(
            STUDY.split,
            STUDY.encoders[wildcards.encoder].model_copy(update=FILES[wildcards.encoder]),
            as_type=TrainSettings,
        ),
    shell:
        "her2pipe train {params.stores:q} {output:q} --sheet {params.sheet:q} --threads {threads}"
        " {params.settings} > {log:q} 2>&1"
