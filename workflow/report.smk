# The study's page.
rule report:
    input:
        unpack(reported),
    output:
        report(
            "results/report/index.html",
            caption="report/page.rst",
            category="Study page",
            labels={"what": "the whole study"},
        ),
    log:
        "logs/report.log",
    benchmark:
        "benchmarks/report.tsv"
    conda:
        "../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        words=report_words,
        labels=[labels(name, *SHOWN) for name in SCORED],
        study=report_study(),
        settings=flags.to_flags(STUDY.report),
    shell:
        "her2pipe report {output:q} --compare {input.compare:q} --ledger {input.ledger:q}"
        " {params.words:q} --benchmarks benchmarks --study {params.study:q} {params.settings}"
        " > {log:q} 2>&1"
