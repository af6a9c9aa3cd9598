# Fit an encoder to the development cohort.
rule train:
    input:
        stores=training_stores,
        files=training_files,
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
        stores=training_folders,
        sheet=lambda wildcards: SHEETS[development(wildcards)],
        labels=taught("patient", TRUTH, "split"),
        settings=encoder_settings,
    shell:
        "her2pipe train {params.stores:q} {output:q} --sheet {params.sheet:q} --threads {threads}"
        " {params.settings} > {log:q} 2>&1"
