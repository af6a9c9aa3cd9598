# Statistics and figures of one method on one cohort.
rule evaluate:
    input:
        scores="results/score/{method}/{cohort}.tsv",
        development=f"results/score/{{method}}/{DEVELOPMENT}.tsv",
        encodings=batch_folders,
    output:
        report(
            directory("results/evaluate/{method}/{cohort}"),
            patterns=["{name}.svg"],
            caption="report/evaluate.rst",
            category="Results by cohort",
            subcategory="{method}",
            labels={"cohort": "{cohort}", "figure": "{name}"},
        ),
    log:
        "logs/evaluate/{method}/{cohort}.log",
    benchmark:
        "benchmarks/evaluate/{method}/{cohort}.tsv"
    conda:
        "../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        sheet=lambda wildcards: SHEETS[wildcards.cohort],
        labels=evaluated_labels,
        development=SHEETS[DEVELOPMENT],
        internal=labels(DEVELOPMENT, "patient", "positive", "split"),
        role=lambda wildcards: STUDY.cohorts[wildcards.cohort].role,
        encoder=lambda wildcards: STUDY.methods[wildcards.method].encoder,
        aggregate=lambda wildcards: STUDY.methods[wildcards.method].aggregate,
        trained=trained,
        settings=settings.flags(STUDY.split, STUDY.evaluate),
    shell:
        "her2pipe evaluate {input.scores:q} {output:q} --sheet {params.sheet:q}"
        " --role {params.role} --method {wildcards.method:q} --encoder {params.encoder:q}"
        " --aggregate {params.aggregate} --trained {params.trained:q}"
        " --cohort {wildcards.cohort:q} --encoding {input.encodings:q}"
        " --development {input.development:q} --development-sheet {params.development:q}"
        " {params.settings} > {log:q} 2>&1"
