# Draw a synthetic slide and its tumour annotation, in both formats.
rule synthesise:
    output:
        slide="results/synthesise/{cohort}/{slide}.svs",
        geojson="results/synthesise/{cohort}/{slide}.geojson",
        xml="results/synthesise/{cohort}/{slide}.xml",
    log:
        "logs/synthesise/{cohort}/{slide}.log",
    benchmark:
        "benchmarks/synthesise/{cohort}/{slide}.tsv"
    conda:
        "../envs/slides.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(10),
    params:
        settings=commands.synthesise,
    shell:
        "her2pipe synthesise {output.slide:q} --geojson {output.geojson:q} --xml {output.xml:q}"
        " {params.settings} > {log:q} 2>&1"
