# Statistics and figures of one method on one cohort.
rule evaluate:
    input:
        scores="results/score/{method}/{cohort}.tsv",
        development=inputs.development_scores,
        encodings=inputs.cohort_encodings,
        packs=inputs.compared_packs,
        splits=inputs.all_split_scores,
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
        options=commands.evaluate,
        labels=fingerprints.evaluate,
        cutoff=fingerprints.cutoff,
        settings=commands.settings("evaluate"),
    shell:
        "her2pipe evaluate {input.scores:q} {output:q} --encoding {input.encodings:q}"
        " --development {input.development:q} {params.options:q} {params.settings} > {log:q} 2>&1"
