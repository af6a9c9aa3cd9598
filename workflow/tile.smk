# Cut one slide, under one view, into a patch store.
rule tile:
    input:
        slide=lambda wildcards: ROWS[wildcards.cohort][wildcards.slide].path,
        annotation=annotation,
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
        annotation=lambda wildcards, input: [f"--annotation={path}" for path in input.annotation],
        row=slide_settings,
        settings=settings.flags(STUDY.slides, STUDY.stain, STUDY.tile),
    shell:
        "her2pipe tile {input.slide:q} {output:q} --view {wildcards.view} --threads {threads}"
        " --stage={resources.stage:q} {params.annotation:q} {params.row} {params.settings} > {log:q} 2>&1"
