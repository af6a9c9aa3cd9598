# Run an encoder over one batch of a cohort's slides.
rule encode:
    input:
        model="results/train/{encoder}",
        stores=stores,
    output:
        directory("results/encode/{encoder}/{cohort}/{batch}"),
    log:
        "logs/encode/{encoder}/{cohort}/{batch}.log",
    benchmark:
        "benchmarks/encode/{encoder}/{cohort}/{batch}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1 if STUDY.encode.device == "cpu" else 8
    resources:
        gpu=on_gpu(STUDY.encode.device),
        mem_mb=growing(6000),
        runtime=growing(240),
    params:
        settings=flags.to_flags(STUDY.encode),
    shell:
        "her2pipe encode {input.stores:q} {output:q} --model {input.model:q}"
        " --threads {threads} {params.settings} > {log:q} 2>&1"
