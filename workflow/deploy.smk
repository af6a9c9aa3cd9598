# Write an encoder's network as ONNX files, and tell what they cost and give.
rule deploy:
    input:
        model="results/train/{encoder}",
        stores=training_stores,
    output:
        directory("results/deploy/{encoder}"),
    log:
        "logs/deploy/{encoder}.log",
    benchmark:
        "benchmarks/deploy/{encoder}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 2
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        stores=training_folders,
        sheet=lambda wildcards: SHEETS[development(wildcards)],
        labels=taught("patient", TRUTH, "split"),
        settings=flags.to_flags(STUDY.deploy),
    shell:
        "her2pipe deploy {params.stores:q} {output:q} --model {input.model:q}"
        " --sheet {params.sheet:q} --threads {threads} {params.settings} > {log:q} 2>&1"
