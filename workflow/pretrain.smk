# Train a network on labelled images of other things; encoders that name it share it.
rule pretrain:
    input:
        inputs.pretraining_images,
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
        gpu=lambda wildcards: gpus(study.settings.pretrainings[wildcards.pretraining].device),
        mem_mb=growing(8000),
        runtime=growing(2880),
    params:
        stores=commands.pretraining_stores,
        labels=fingerprints.pretrain,
        network=fingerprints.network("pretrain"),
        settings=commands.pretrain,
    shell:
        "her2pipe pretrain {output:q} --threads {threads} {params.stores:q} {params.settings}"
        " > {log:q} 2>&1"
