# Score a cohort's slides by one method.
rule score:
    input:
        encodings=inputs.scored,
        model=inputs.scoring_model,
        reference=inputs.reference,
        stores=inputs.compared_stores,
        quality=inputs.quality,
        trained=inputs.trained_for_split,
    output:
        "results/score/{method}/{cohort}.tsv",
    log:
        "logs/score/{method}/{cohort}.log",
    benchmark:
        "benchmarks/score/{method}/{cohort}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        sheet=inputs.sheet,
        labels=fingerprints.cohort("score"),
        aggregate=commands.aggregation,
        model=commands.scoring,
        settings=commands.settings("score"),
    shell:
        "her2pipe score {input.encodings:q} {output:q} --aggregate {params.aggregate}"
        " {params.model:q} --sheet {params.sheet:q} {params.settings} > {log:q} 2>&1"
