# Fit an encoder to the development cohort.
rule train:
    input:
        training_stores,
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
        sheet=SHEETS[DEVELOPMENT],
        labels=labels(DEVELOPMENT, "patient", "positive", "split"),
        settings=lambda wildcards: settings.flags(
            STUDY.split, STUDY.encoders[wildcards.encoder], as_type=TrainSettings
        ),
    shell:
        "her2pipe train {input:q} {output:q} --sheet {params.sheet:q} --threads {threads}"
        " {params.settings} > {log:q} 2>&1"
