# The account of every slide.
rule ledger:
    input:
        targets.score_tables,
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
        sheets=commands.ledger_sheets(),
        labels=fingerprints.scored_cohorts("ledger"),
        settings=commands.settings("ledger"),
    shell:
        "her2pipe ledger {input:q} {output:q} {params.sheets:q} {params.settings} > {log:q} 2>&1"
