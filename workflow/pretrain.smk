# Train a network on labelled images of other things; encoders that name it share it.
rule pretrain:
    input:
        pretraining_images,
    output:
        directory("results/pretrain/{pretraining}"),
    log:
        "logs/pretrain/{pretraining}.log",
    benchmark:
        "benchmarks/pretrain/{pretraining}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        gpu=lambda wildcards: on_gpu(STUDY.pretrainings[wildcards.pretraining].device),
        mem_mb=growing(8000),
        runtime=growing(2880),
    params:
        stores=lambda wildcards, input: [f"--stores={p}" for p in input if p.endswith(".h5")],
        words=pretraining_words,
        labels=pretraining_labels,
        settings=pretraining_settings,
    shell:
        "her2pipe pretrain {output:q} --threads {threads} {params.stores:q} {params.words:q}"
        " {params.settings} > {log:q} 2>&1"
