# The study's page.
rule report:
    input:
        manifests.report_inputs,
    output:
        page=report(
            "results/report/index.html",
            caption="report/page.rst",
            category="Study page",
            labels={"what": "the whole study"},
        ),
        files=directory("results/report/files"),
        flow=multiext("results/report/flow", ".svg", ".pdf"),
        numbers="results/report/report.json",
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
        manifest=manifests.report_path,
        rows=manifests.report.digest(),
        study=manifests.study_path,
        changes=manifests.study_digest(),
        options=commands.report(),
        labels=fingerprints.scored_cohorts("report"),
        settings=commands.settings("report"),
    shell:
        "her2pipe report {params.manifest:q} {output.page:q} --study {params.study:q}"
        " --benchmarks benchmarks {params.options:q} {params.settings} > {log:q} 2>&1"
