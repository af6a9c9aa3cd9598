# A trained method as a folder to give away, with its model card.
rule bundle:
    input:
        model=inputs.trained,
        fit=inputs.fitted,
        scores=inputs.development_scores,
        stores=inputs.development_stores,
        encodings=inputs.development_encodings,
        evaluations=inputs.evaluations,
    output:
        directory("results/bundle/{method}"),
    log:
        "logs/bundle/{method}.log",
    benchmark:
        "benchmarks/bundle/{method}.tsv"
    priority: -2  # nothing waits for it: it can be made beside the page
    conda:
        "../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        study=fingerprints.bundled,
        settings=commands.settings("bundle"),
    shell:
        "her2pipe bundle {wildcards.method:q} {output:q} {params.settings} > {log:q} 2>&1"
