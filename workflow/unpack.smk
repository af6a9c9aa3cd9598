# Take encoder and aggregation out of a bundle, which is verified: in place of training and fitting.
rule unpack:
    output:
        encoder=directory("results/unpack/encoder/{method}"),
        aggregation=directory("results/unpack/aggregation/{method}"),
        bundle="results/unpack/bundle/{method}.json",
    log:
        "logs/unpack/{method}.log",
    benchmark:
        "benchmarks/unpack/{method}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        # By its digest: a bundle that was moved or copied reruns nothing.
        digest=fingerprints.bundle,
        path=lambda wildcards, input: study.bundles[wildcards.method].path,
        settings=commands.settings("unpack"),
    shell:
        "her2pipe unpack {params.path:q} --encoder {output.encoder:q}"
        " --aggregation {output.aggregation:q} --description {output.bundle:q} {params.settings}"
        " > {log:q} 2>&1"
