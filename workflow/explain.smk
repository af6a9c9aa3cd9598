# Grad-CAM of one batch of a cohort's slides, for one encoder.
rule explain:
    input:
        stores=inputs.batch_stores,
        encodings="results/encode/{encoder}/{cohort}/{batch}",
        model=inputs.model,
    output:
        report(
            directory("results/explain/{encoder}/{cohort}/{batch}"),
            patterns=["{slide}.jpg"],
            caption="report/explain.rst",
            category="Evidence",
            subcategory="{cohort}",
            labels={"encoder": "{encoder}", "slide": "{slide}"},
        ),
    log:
        "logs/explain/{encoder}/{cohort}/{batch}.log",
    benchmark:
        "benchmarks/explain/{encoder}/{cohort}/{batch}.tsv"
    priority: -1  # nothing but the page waits for it: what `compare` needs comes first
    conda:
        "../envs/torch.yaml"
    threads: threads_for(study.settings.explain.device, 8)
    resources:
        gpu=gpus(study.settings.explain.device),
        mem_mb=growing(6000),
        runtime=growing(240),
    params:
        layer=commands.explain_layer,
        settings=commands.settings("explain"),
    shell:
        "her2pipe explain {input.stores:q} {output:q} --encoding {input.encodings:q}"
        " --model {input.model:q} --layer={params.layer:q} --threads {threads} {params.settings}"
        " > {log:q} 2>&1"
