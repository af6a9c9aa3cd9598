# The account of every slide.
rule ledger:
    input:
        [f"results/score/{method}/{name}.tsv" for method, name in PAIRS],
    output:
        report(
            "results/ledger/ledger.tsv",
            caption="report/ledger.rst",
            category="Cohorts and slides",
            labels={"what": "every slide"},
        ),
    log:
        "logs/ledger.log",
    benchmark:
        "benchmarks/ledger.tsv"
    conda:
        "../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        sheets=[f"--sheet={name}={SHEETS[name]}" for name in SCORED],
        labels=[labels(name, "patient", "exclusion_reason") for name in SCORED],
        settings=flags.to_flags(STUDY.ledger) + telling("ordered", "reflex", "reflex_margin"),
    shell:
        "her2pipe ledger {input:q} {output:q} {params.sheets:q} {params.settings} > {log:q} 2>&1"
