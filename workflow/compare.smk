# The method table of the study.
rule compare:
    input:
        evaluations=[f"results/evaluate/{method}/{name}" for method, name in PAIRS],
        train=compared_networks(),
    output:
        report(
            directory("results/compare"),
            patterns=["{name}.svg", "{name}.tsv"],
            caption="report/compare.rst",
            category="Methods compared",
            labels={"what": "{name}"},
        ),
    log:
        "logs/compare.log",
    benchmark:
        "benchmarks/compare.tsv"
    conda:
        "../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        # No inputs: a benchmark differs from run to run, and only timing.tsv reads it.
        timing=[f"{method}={name}=benchmarks/score/{method}/{name}.tsv" for method, name in PAIRS],
        words=compare_words(),
        cases=matched_labels(),
        settings=flags.to_flags(STUDY.compare),
    shell:
        "her2pipe compare {input.evaluations:q} {output:q} {params.settings}"
        " --timing {params.timing:q} {params.words:q} > {log:q} 2>&1"
