# Cut one slide, under one view, into a patch store; or pack a batch of images into one.
rule tile:
    input:
        slide=inputs.slide,
        annotation=inputs.drawn,
    output:
        "results/tile/{view}/{cohort}/{slide}.h5",
    log:
        "logs/tile/{view}/{cohort}/{slide}.log",
    benchmark:
        "benchmarks/tile/{view}/{cohort}/{slide}.tsv"
    conda:
        "../envs/slides.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
        stage="",  # a profile may name a folder of the node's own
    params:
        source=inputs.slide_or_sheet,
        annotation=commands.annotation,
        row=commands.tile_row,
        rows=fingerprints.pack,
        settings=commands.tile,
    shell:
        "her2pipe tile {params.source:q} {output:q} --view {wildcards.view} --threads {threads}"
        " --stage={resources.stage:q} {params.annotation:q} {params.row} {params.settings} > {log:q} 2>&1"
