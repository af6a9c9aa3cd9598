# The method table of the study.
rule compare:
    input:
        manifests.compare_inputs,
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
        manifest=manifests.compare_path,
        rows=manifests.compare.digest(),
        options=commands.compare(),
        labels=fingerprints.matched(),
        settings=commands.settings("compare"),
    shell:
        "her2pipe compare {params.manifest:q} {output:q} {params.options:q} {params.settings}"
        " > {log:q} 2>&1"
