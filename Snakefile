# her2pipe: tile -> (pretrain ->) train -> encode -> (fit ->) score -> evaluate -> compare -> report
#   snakemake --cores all [-n] [--configfile studies/my.yaml]   -n: what would run, and why

from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")


if not workflow.overwrite_configfiles:

    configfile: Path(workflow.basedir) / "config.yaml"


report: "workflow/report/study.rst"


include: "workflow/common.smk"
include: "workflow/synthesise.smk"
include: "workflow/draw.smk"
include: "workflow/preflight.smk"
include: "workflow/tile.smk"
include: "workflow/pretrain.smk"
include: "workflow/train.smk"
include: "workflow/unpack.smk"
include: "workflow/encode.smk"
include: "workflow/fit.smk"
include: "workflow/quality.smk"
include: "workflow/score.smk"
include: "workflow/evaluate.smk"
include: "workflow/compare.smk"
include: "workflow/describe.smk"
include: "workflow/heatmap.smk"
include: "workflow/deploy.smk"
include: "workflow/bundle.smk"
include: "workflow/explain.smk"
include: "workflow/ledger.smk"
include: "workflow/report.smk"


snakemake_api.link_resources(workflow)


wildcard_constraints:
    view="adaptive|whole|[0-9.]+(um)?",
    cohort="[^/]+",
    slide="[^/]+",
    pretraining="[^/]+",
    encoder="[^/]+",
    method="[^/]+",
    batch="[0-9]+of[0-9]+",


rule all:
    default_target: True
    input:
        targets.preflight,
        targets.score_tables,
        targets.evaluations,
        "results/compare",
        targets.optional,
        "results/ledger/ledger.tsv",
        "results/report/index.html",
