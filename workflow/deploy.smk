# Write an encoder's network as ONNX files, and measure their size, speed and agreement.
rule deploy:
    input:
        model=inputs.model,
        stores=inputs.training_stores,
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
        stores=inputs.training_folders,
        sheet=inputs.development_sheet,
        labels=fingerprints.development("deploy"),
        settings=commands.settings("deploy"),
    shell:
        "her2pipe deploy {params.stores:q} {output:q} --model {input.model:q}"
        " --sheet {params.sheet:q} --threads {threads} {params.settings} > {log:q} 2>&1"
