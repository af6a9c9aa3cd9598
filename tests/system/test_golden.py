"""Outputs that change on purpose raise their step's `algorithm`; all others must not change.

Each step of the chain is run on fixed input and summarised to a few rounded numbers, kept in
`tests/system/golden/`. A step whose summary differs while its `algorithm` is the one on file has
changed by accident, or forgot that users' studies must rerun it. After a change on purpose: raise
`algorithm` in its settings, then write the file anew with `HER2PIPE_GOLDEN=write pytest
tests/system/test_golden.py`.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from her2pipe import config
from her2pipe.files import read_table
from her2pipe.store import PatchStore, read_encoding

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Run synthesise, tile, pretrain, train, encode and score on two pairs of small slides."""
    from her2pipe.cli import main

    folder = tmp_path_factory.mktemp("golden")

    def run(*words):
        assert main([str(w) for w in words]) == 0

    small = ["--width-um", "260", "--height-um", "220", "--objective", "20"]
    lines, stores = ["slide\tpath\tpatient\tsplit\ther2"], []
    for i, (kind, severity) in enumerate([("negative", 0), ("positive", 4)] * 2, start=1):
        slide = f"S{i}"
        run(
            "synthesise",
            folder / f"{slide}.svs",
            "--seed",
            i,
            "--severity",
            severity,
            "--geojson",
            folder / f"{slide}.geojson",
            *small,
        )
        stores.append(folder / f"{slide}.h5")
        run(
            "tile",
            folder / f"{slide}.svs",
            stores[-1],
            "--view",
            "64",
            "--patch-px",
            "64",
            "--annotation",
            folder / f"{slide}.geojson",
        )
        lines.append(f"{slide}\tx{i}\tP{i}\t{'train' if i < 3 else 'validation'}\t{kind}")
    (folder / "sheet.tsv").write_text("\n".join(lines) + "\n")
    run(
        "pretrain",
        folder / "shapes",
        "--images",
        "synthetic",
        "--synthetic-images",
        "50",
        "--architecture",
        "resnet10t",
        "--input-px",
        "32",
        "--batch-size",
        "25",
        "--epochs",
        "2",
        "--device",
        "cpu",
    )
    run(
        "train",
        *stores,
        folder / "model",
        "--sheet",
        folder / "sheet.tsv",
        "--architecture",
        "resnet10t",
        "--input-px",
        "64",
        "--frozen",
        "--train-views",
        "64",
        "--batch-size",
        "16",
        "--max-epochs",
        "1",
        "--device",
        "cpu",
    )
    run("encode", *stores, folder / "encodings", "--model", folder / "model", "--device", "cpu")
    run("score", folder / "encodings", folder / "scores.tsv")
    return folder


def rounded(values, digits):
    return [round(float(v), digits) for v in np.ravel(values)]


def synthesise(folder):
    import openslide

    slide = openslide.OpenSlide(folder / "S2.svs")
    thumbnail = np.asarray(slide.get_thumbnail((8, 8)).convert("L"), float)
    return {"size": slide.dimensions, "grey": rounded(thumbnail / 8, 0)}


def tile(folder):
    with PatchStore(folder / "S2.h5") as store:
        return {
            "coords": store.coords.ravel().tolist(),
            "variance": rounded(store.variance / 50, 0),
            "tumour": rounded(store.tumour, 2),
            "stain": rounded(store.stain["matrix"], 2),
            "concentration": rounded(store.stain["max_concentration"], 1),
        }


def pretrain(folder):
    metadata = json.loads((folder / "shapes" / "model.json").read_text())
    history = read_table(folder / "shapes" / "history.tsv")
    return {
        "images": metadata["images"],
        "loss": rounded([row["train_loss"] for row in history], 1),
    }


def train(folder):
    metadata = json.loads((folder / "model" / "model.json").read_text())
    history = read_table(folder / "model" / "history.tsv")
    return {
        "training_set": metadata["training_set_digest"],
        "target": rounded(metadata["stain"]["matrix"], 2),
        "loss": rounded([row["train_loss"] for row in history], 1),
    }


def encode(folder):
    encoding = read_encoding(folder / "encodings" / "S2.h5")
    return {
        "coords": encoding.coords.ravel().tolist(),
        "probabilities": rounded(encoding.probabilities[:6], 1),
        "width": encoding.features.shape[1],
    }


def fit(folder):
    """each trained aggregation on drawn features of ten slides, two epochs."""
    from her2pipe.cli import main
    from her2pipe.store import EncodingMetadata, write_encoding

    random, lines = np.random.default_rng(7), ["slide\tpath\tpatient\tsplit\ther2"]
    (folder / "bags").mkdir()
    coords = np.stack([np.arange(20) % 5, np.arange(20) // 5], 1) * 512
    for i, kind in enumerate(["negative", "positive"] * 5):
        features = random.normal(0.5 * (i % 2), 1, (20, 8))
        path = folder / "bags" / f"S{i}.h5"
        metadata = EncodingMetadata(slide=path.stem, width_px0=31623, height_px0=31623)
        write_encoding(path, coords, np.zeros((20, 0)), features, metadata)
        lines.append(f"S{i}\tx{i}\tP{i}\ttrain\t{kind}")
    (folder / "bags.tsv").write_text("\n".join(lines) + "\n")
    summaries = {}
    for name in ("clam", "slidegraph", "mlp"):
        words = ["fit", folder / "bags", folder / name, "--sheet", folder / "bags.tsv"]
        words += ["--aggregate", name, "--folds", 2, "--max-epochs", 2, "--device", "cpu"]
        assert main([str(w) for w in words]) == 0
        history = read_table(folder / name / "history.tsv")
        slides = read_table(folder / name / "slides.tsv")
        summaries[name] = {
            "loss": rounded([row["train_loss"] for row in history], 2),
            "fold": [int(row["fold"]) for row in slides],
            "score": rounded([row["score"] for row in slides], 1),
        }
    words = ["fit", folder / "bags", folder / "probe", "--sheet", folder / "bags.tsv"]
    assert main([*map(str, words), "--aggregate", "linear_probe", "--folds", "2"]) == 0
    rows = read_table(folder / "probe" / "regularisation.tsv")
    summaries["linear_probe"] = {
        "loss": rounded([row["loss"] for row in rows], 4),
        "score": rounded([r["score"] for r in read_table(folder / "probe" / "slides.tsv")], 4),
    }
    return summaries


def score(folder):
    from her2pipe.aggregation.base import Bag, scorer

    random = np.random.default_rng(7)
    p = random.dirichlet([1, 1, 1], (5, 40))
    empty = np.zeros((40, 2))
    bags = [Bag("S", empty, 64, 640, 640, q, empty, list(config.CLASSES)) for q in p]
    return {
        name: [
            [*rounded([s.score, s.tumour_patches], 6), s.level, s.flag]
            for s in map(scorer(name, config.LabelSettings()).score, bags)
        ]
        for name in ("probabilistic", "mean")
    }


@pytest.mark.slow
@pytest.mark.parametrize("summary", [synthesise, tile, pretrain, train, encode, fit, score])
def test_golden(summary, chain):
    step = summary.__name__
    section = config.Config.model_fields[step].annotation
    now = {"algorithm": section().algorithm, "output": summary(chain)}
    now = json.loads(json.dumps(now))
    path = GOLDEN / f"{step}.json"
    if os.environ.get("HER2PIPE_GOLDEN") == "write":
        path.write_text(json.dumps(now) + "\n")
    kept = json.loads(path.read_text())
    assert now["algorithm"] >= kept["algorithm"], "algorithm numbers only rise"
    if now["algorithm"] == kept["algorithm"]:
        assert now["output"] == kept["output"], f"raise algorithm of {step}, or undo the change"
    else:
        pytest.fail(f"algorithm of {step} was raised: write tests/system/golden anew")
