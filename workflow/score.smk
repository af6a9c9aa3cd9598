# Score a cohort's slides by one method.
rule score:
    input:
        encodings=batch_folders,
        model=fitted,
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
        sheet=lambda wildcards: SHEETS[wildcards.cohort],
        patients=lambda wildcards: labels(wildcards.cohort, "patient"),
        aggregate=lambda wildcards: STUDY.methods[wildcards.method].aggregate,
        model=lambda wildcards, input: [f"--model={path}" for path in input.model],
        settings=flags.to_flags(STUDY.score) + telling(),
    shell:
        "her2pipe score {input.encodings:q} {output:q} --aggregate {params.aggregate}"
        " {params.model:q} --sheet {params.sheet:q} {params.settings} > {log:q} 2>&1"
