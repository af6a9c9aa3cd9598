# Maps of one batch of a cohort's slides, for one method.
rule heatmap:
    input:
        stores=inputs.batch_stores,
        encodings=inputs.batch_encodings,
        model=inputs.fitted,
    output:
        report(
            directory("results/heatmap/{method}/{cohort}/{batch}"),
            patterns=["{slide}.png"],
            caption="report/heatmap.rst",
            category="Heat maps",
            subcategory="{cohort}",
            labels={"method": "{method}", "slide": "{slide}"},
        ),
    log:
        "logs/heatmap/{method}/{cohort}/{batch}.log",
    benchmark:
        "benchmarks/heatmap/{method}/{cohort}/{batch}.tsv"
    priority: -1  # nothing but the page waits for it: what `compare` needs comes first
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(120),
    params:
        aggregate=commands.aggregation,
        model=commands.model,
        settings=commands.settings("heatmap"),
    shell:
        "her2pipe heatmap {input.stores:q} {output:q} --encoding {input.encodings:q}"
        " --aggregate {params.aggregate} {params.model:q} {params.settings} > {log:q} 2>&1"
