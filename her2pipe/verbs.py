"""The verbs of the command line, in the groups in which help shows them.

A table without imports: help and hints need no step, and so no library.
"""

from __future__ import annotations

from collections.abc import Iterable


class Verb:
    """One verb: its name, what it does, and command lines to begin with.

    Attributes
    ----------
    module : str
        Its module below `her2pipe`.
    """

    def __init__(self, name: str, summary: str, *examples: str) -> None:
        self.name, self.summary, self.examples = name, summary, examples
        self.module = f"steps.{name}"


GROUPS: dict[str, tuple[Verb, ...]] = {
    "run a study": (
        Verb(
            "init",
            "begin a study: a folder with study file, sheets, profiles and Makefile",
            "her2pipe init my-study --study tlpa",
            "her2pipe init demo",
            "her2pipe init anything --study list",
        ),
        Verb(
            "run",
            "run a study, by Snakemake, whose command is printed",
            "her2pipe run my-study/study.yaml --cores 4 -n",
            "her2pipe run my-study/study.yaml --cores 4",
            "her2pipe run my-study/study.yaml --profile slurm -- --until encode",
        ),
        Verb(
            "status",
            "show what of a study is done, what a run would do, what failed last",
            "her2pipe status --directory my-study",
            "her2pipe status --directory my-study --watch",
        ),
        Verb(
            "preflight",
            "check a study, or single sheets, before anything is cut",
            "her2pipe preflight --configfile my-study/study.yaml --directory my-study",
            "her2pipe preflight looked-over --sheet A=A.tsv",
        ),
    ),
    "cohorts": (
        Verb(
            "cohort",
            "write the sheet of a public cohort from its files and tables",
            "her2pipe cohort tcga /data/tcga A.tsv --table biotab.txt",
            "her2pipe cohort bcnb /data/BCNB bcnb.tsv --mpp 0.5",
            "her2pipe cohort folders /data/images my.tsv --patient '(P[0-9]+)_'",
        ),
        Verb(
            "synthesise",
            "draw a synthetic slide, or wrap an image as one (Aperio-style SVS)",
            "her2pipe synthesise S1.svs --seed 1 --severity 3 --xml S1.xml",
            "her2pipe synthesise S2.svs --image photograph.png --mpp 0.5",
        ),
        Verb(
            "draw",
            "draw a cohort of synthetic images, by the rows of its sheet",
            "her2pipe draw images.tsv images --image-px 256",
        ),
        Verb(
            "quality",
            "look over slides: tissue, artefacts, stain and file, and what is out of range",
            "her2pipe quality slide.svs",
            "her2pipe quality results/tile/adaptive/A --table A-quality.tsv --sheet A.tsv",
        ),
        Verb(
            "ledger",
            "account for every slide of every sheet: scored, or excluded and why",
            "her2pipe ledger A=A-scores.tsv ledger.tsv --sheet A=A.tsv",
        ),
    ),
    "models": (
        Verb(
            "predict",
            "score slides by a bundle, with heat maps, a ledger and a page",
            "her2pipe predict TL-PA.zip /data/new my-slides",
            "her2pipe predict TL-PA.zip sheet.tsv my-slides --device cpu",
        ),
        Verb(
            "bundle",
            "make a trained method a folder, or a zip, that can be given away",
            "her2pipe bundle TL-PA TL-PA.zip --license apache-2.0",
        ),
        Verb(
            "unpack",
            "take encoder and aggregation out of a bundle, having checked every file of it",
            "her2pipe unpack TL-PA.zip --encoder encoder --aggregation fit"
            " --description bundle.json",
        ),
        Verb(
            "encoders",
            "list published encoders; fetch their weights, and check them",
            "her2pipe encoders",
            "her2pipe encoders show virchow2",
            "her2pipe encoders fetch virchow2 uni2-h",
        ),
        Verb(
            "prune",
            "keep the first stages of a network, and count what that saves",
            "her2pipe prune tf_efficientnetv2_b0",
            "her2pipe prune results/train/swin-t --stages 3 --to shorter",
        ),
        Verb(
            "deploy",
            "write a network as ONNX, with its size, speed and accuracy",
            "her2pipe deploy results/tile/192/A onnx --model results/train/swin-t --sheet A.tsv",
        ),
    ),
    "single steps": (
        Verb(
            "tile",
            "cut one slide, under one view, into a patch store",
            "her2pipe tile slide.svs slide.h5 --view adaptive",
            "her2pipe tile slide.svs slide.h5 --view 256um --annotation slide.xml",
        ),
        Verb(
            "pretrain",
            "train a network on labelled images of other things, for encoders to start from",
            "her2pipe pretrain shapes --images synthetic --epochs 1 --input-px 32",
        ),
        Verb(
            "train",
            "train an encoder on the patches of the development cohort",
            "her2pipe train results/tile/adaptive/A encoder --sheet A.tsv"
            " --architecture swin_tiny_patch4_window7_224",
        ),
        Verb(
            "encode",
            "compute probabilities and features of patch stores by one encoder",
            "her2pipe encode slide.h5 encodings --model results/train/swin-t",
        ),
        Verb(
            "fit",
            "fit an aggregation to the training slides of the development cohort",
            "her2pipe fit results/encode/swin-t/A clam --sheet A.tsv --aggregate clam",
        ),
        Verb(
            "score",
            "score the slides of one cohort by one method",
            "her2pipe score encodings scores.tsv --aggregate probabilistic",
            "her2pipe score encodings scores.tsv --aggregate clam --model clam",
        ),
        Verb(
            "evaluate",
            "compute statistics and figures of one method on one cohort",
            "her2pipe evaluate scores.tsv evaluation --sheet A.tsv --cohort A --role external",
        ),
        Verb(
            "compare",
            "make the method table of a study, with paired tests",
            "her2pipe compare results/manifest/compare.tsv comparison",
        ),
    ),
    "look": (
        Verb(
            "report",
            "write the study as one self-contained page",
            "her2pipe report results/manifest/report.tsv page.html",
        ),
        Verb(
            "view",
            "open a slide with its maps in the browser, on this machine alone",
            "her2pipe view A-001.svs",
            "her2pipe view A-001.svs --results my-study/results --port 8080 --no-browser",
        ),
        Verb(
            "heatmap",
            "draw what each patch adds to a slide's score, as picture, GeoJSON and TIAViz store",
            "her2pipe heatmap slide.h5 maps --encoding encodings --aggregate probabilistic",
        ),
        Verb(
            "explain",
            "draw where in its patches a network sees a slide's class (Grad-CAM)",
            "her2pipe explain slide.h5 evidence --encoding encodings --model results/train/swin-t",
        ),
        Verb(
            "describe",
            "describe how patches look by grade of p(HER2+), in 39 features",
            "her2pipe describe encodings features --stores slide.h5 --model results/train/swin-t",
        ),
    ),
}
VERBS = {verb.name: verb for group in GROUPS.values() for verb in group}
COMPLETION = "completion"


def nearest(word: str, words: Iterable[str]) -> str:
    """Return `did you mean X? ` of the most similar word, empty where none is near."""
    import difflib

    near = difflib.get_close_matches(word, list(words), 1, 0.6)
    return f"did you mean {near[0]}? " if near else ""


def overview() -> str:
    """Return the help of the whole program: every verb in its group, with what it does."""
    lines = ["usage: her2pipe VERB ...     her2pipe VERB --help: its arguments, and examples"]
    for title, group in GROUPS.items():
        lines += ["", title]
        lines += [f"  {verb.name:<11} {verb.summary}" for verb in group]
    lines += ["", "this shell"]
    lines += [f"  {COMPLETION:<11} print what completes verbs and flags in bash, zsh or tcsh"]
    lines += [f"  {'--version':<11} print the version"]
    return "\n".join(lines)
