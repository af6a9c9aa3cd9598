# Run an encoder over one batch of a cohort's slides.
rule encode:
    input:
        model=inputs.model,
        stores=inputs.batch_stores,
    output:
        directory("results/encode/{encoder}/{cohort}/{batch}"),
    log:
        "logs/encode/{encoder}/{cohort}/{batch}.log",
    benchmark:
        "benchmarks/encode/{encoder}/{cohort}/{batch}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: threads_for(study.settings.encode.device, 8 * study.settings.encode.cards)
    resources:
        gpu=gpus(study.settings.encode.device, study.settings.encode.cards),
        mem_mb=growing(6000),
        runtime=growing(240),
    params:
        settings=commands.settings("encode"),
    shell:
        "her2pipe encode {input.stores:q} {output:q} --model {input.model:q}"
        " --threads {threads} {params.settings} > {log:q} 2>&1"
