# The study's page.
rule report:
    input:
        compare="results/compare",
        evaluate=expand("results/evaluate/{method}/{cohort}", method=STUDY.methods, cohort=SCORED),
        ledger="results/ledger/ledger.tsv",
        train=expand("results/train/{encoder}", encoder=ENCODERS),
        heatmap=[
            f"results/heatmap/{method}/{name}/{batch}"
            for method in DRAWN
            for name in SCORED
            for batch in batches(name)
        ],
        encode=[
            f"results/encode/{encoder}/{name}/{batch}"
            for encoder in ENCODERS[:1]
            for name in SCORED
            for batch in batches(name)
        ],
        sample=[
            f"results/tile/{STUDY.encoders[ENCODERS[0]].view}/{name}/{next(iter(ROWS[name]))}.h5"
            for name in SCORED
        ],
    output:
        "results/report/index.html",
    log:
        "logs/report.log",
    benchmark:
        "benchmarks/report.tsv"
    conda:
        "../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        study=json.dumps(
            {
                "title": STUDY.study.title,
                "cohorts": {
                    n: {"title": c.title, "role": c.role} for n, c in STUDY.cohorts.items()
                },
                "settings": STUDY.model_dump(mode="json"),
            }
        ),
        sample=lambda wildcards, input: [
            f"{name}={path}" for name, path in zip(SCORED, input.sample)
        ],
        settings=settings.flags(STUDY.report),
    shell:
        "her2pipe report {output:q} --compare {input.compare:q} --evaluate {input.evaluate:q}"
        " --ledger {input.ledger:q} --train {input.train:q} --heatmap {input.heatmap:q}"
        " --encode {input.encode:q} --sample {params.sample:q}"
        " --study {params.study:q} {params.settings} > {log:q} 2>&1"
