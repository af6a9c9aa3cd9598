"""A synthetic study of three ordered classes: the outputs of all steps before report."""

import json

import class_evaluations
import numpy as np
from manifests import compare_manifest, write_manifest
from stores import make_store, stained

from her2pipe.cli import main
from her2pipe.config import EvaluateSettings
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.evaluation import metrics, results
from her2pipe.files import read_table, write_table
from her2pipe.manifest import Item

LABELS = class_evaluations.GRADES
NAMES = tuple(LABELS.classes)
ENDPOINT = endpoint_of(LABELS)
COLUMNS = ENDPOINT.slide_columns


def slides(n=30, noise=0.6, seed=1, drawn=2):
    """Slides whose truth and patients are the same for every `seed`; some do not count."""
    truth, random = np.random.default_rng(drawn).integers(0, 3, n), np.random.default_rng(seed)
    rows = []
    for i, level in enumerate(truth):
        p = np.exp(-2 * (np.arange(3) - level - random.normal(0, noise)) ** 2)
        p = (p / p.sum()).round(6)
        row = {"slide": f"S{i}", "patient": f"P{i * 2 // 3}", "true_class": NAMES[level]}
        rows.append(
            row | vars(ENDPOINT.predict(p)) | {"p": p, "used": True, "exclusion_reason": ""}
        )
    rows[-1] |= {"used": False, "exclusion_reason": "training slide"}
    rows[-2] |= {
        "true_class": "",
        "exclusion_reason": "no class: ihc is 0: not a class of this study",
    }
    rows[-3] |= {
        "flag": "excluded",
        "used": False,
        "exclusion_reason": "excluded: no annotation",
        "p": None,
    }
    for row in rows:
        p = [None] * 3 if row["p"] is None else row["p"].tolist()
        row |= dict(zip(ENDPOINT.probability_columns, p, strict=True))
        row |= {} if row["p"] is not None else {"call": "", "score": None, "margin": None}
    return rows


def evaluation(folder, method, cohort="B", role="external", rows=None, encoder=""):
    """Write the tables and numbers evaluate leaves of one method on one cohort."""
    rows = slides() if rows is None else rows
    folder = folder / "evaluate" / method / cohort
    folder.mkdir(parents=True)
    write_table(folder / "slides.tsv", COLUMNS, rows)
    written = results.as_slides(read_table(folder / "slides.tsv"), NAMES)
    used = [slide for slide in written if slide.used]
    computed = metrics.compute(metrics.Cohort(ENDPOINT, used, EvaluateSettings(resamples=100)))
    results.write_metrics(
        folder,
        results.Metrics(
            endpoint="class",
            **ENDPOINT.metadata(),
            method=method,
            encoder=encoder or method,
            aggregation="mean",
            cohort=cohort,
            role=role,
            slides=len(rows),
            patients=len({row["patient"] for row in rows}),
            **computed.parts,
        ),
    )
    return folder


def study(folder, skills=(("Good", 3), ("Poor", 1)), n=30):
    """Evaluate and compare methods on two cohorts; return the words of `her2pipe report`."""
    folders, ledger = [], []
    for method, skill in skills:
        for cohort, role in (("A", "development"), ("B", "external")):
            more = {"role": role, "skill": skill, "n": 2 * n if role == "development" else n}
            folders.append(
                class_evaluations.evaluation(folder, method, cohort, seed=len(method), **more)
            )
    for cohort in "AB":
        for row in read_table(folder / "score" / skills[0][0] / f"{cohort}.tsv"):
            out = row["flag"] == "excluded"
            ledger.append({**row, "cohort": cohort, "status": "excluded" if out else "scored"})
    head = ("slide", "patient", "cohort", "status", "reason")
    write_table(folder / "ledger.tsv", head, ledger)
    models, timing = [], []
    for i, (method, _) in enumerate(skills):
        models.append(_model(folder / "train" / method, i))
        for cohort in "AB":
            records = folder / "benchmarks" / "encode" / method / cohort
            encodings = folder / "encode" / method / cohort
            records.mkdir(parents=True)
            (records / "0of1.tsv").write_text(f"s\th:m:s\tmax_rss\n{2 + i}.5\t0:00:02\t300\n")
            timings = {"slide": "S", "patches": 12, "patches_per_s": 25.0 + i}
            write_table(encodings / "0of1" / "timings.tsv", list(timings), [timings])
            timing.append((method, encodings))
    manifest = compare_manifest(folder / "compare.tsv", folders, models, timing)
    words = ["compare", manifest, folder / "compare", "--resamples", "200"]
    assert main([str(word) for word in words]) == 0
    labels = {"title": "HER2 grades of two centres", "settings": {"labels": LABELS.model_dump()}}
    cohorts = {name: {"title": f"Centre {name}"} for name in "AB"}
    (folder / "study.json").write_text(json.dumps(labels | {"cohorts": cohorts}))
    items = [Item("compare", path=folder / "compare"), Item("ledger", path=folder / "ledger.tsv")]
    for path in folders:
        method, cohort = path.parent.name, path.name
        items.append(Item("evaluate", method, method, cohort=cohort, path=path))
    items += [Item("train", encoder=model.name, path=model) for model in models]
    items += [Item("sheet", cohort=cohort, path=folder / f"{cohort}.tsv") for cohort in "AB"]
    pictures = _pictures(folder, skills[0][0])
    manifest = write_manifest(folder / "manifest.tsv", [*items, *pictures])
    benchmarks = folder / "benchmarks"
    return [manifest, "--study", folder / "study.json", "--benchmarks", benchmarks]


def _model(folder, i):
    folder.mkdir(parents=True)
    about = {
        "architecture": ("alexnet", "swin_tiny")[i % 2],
        "input_px": 224,
        "classes": NAMES,
        "features": 768,
        "parameters": {"total": 57_000_000 + i, "trainable": 2307},
        "training_set": [
            {
                "side": "train",
                "view": "512",
                "kind": name,
                "available": 90,
                "used": 90,
                "slides": 4,
                "patients": 3,
            }
            for name in NAMES
        ],
    }
    (folder / "model.json").write_text(json.dumps(about))
    (folder / "model.safetensors").write_bytes(bytes(1_500_000))
    keys = ("epoch", "train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
    write_table(
        folder / "history.tsv", keys, [dict.fromkeys(keys, 1 / k) | {"epoch": k} for k in (1, 2, 3)]
    )
    return folder


def _pictures(folder, method):
    """Draw heat maps and Grad-CAM pictures of a cohort, and its stores."""
    import cv2

    part, seen = (folder / step / method / "B" / "0of1" for step in ("heatmap", "explain"))
    stores = folder / "tile" / "512" / "B"
    for each in (part, seen, stores):
        each.mkdir(parents=True)
    random = np.random.default_rng(1)
    for i in range(0, 12, 3):
        corners = [(64 * (k % 8), 64 * (k // 8)) for k in range(12)]
        make_store(stores / f"B-{i}.h5", stained(12, seed=i), corners, slide=f"B-{i}")
        soft = random.uniform(0, 255, (90, 270, 3)).astype(np.uint8)
        cv2.imwrite(str(part / f"B-{i}.png"), soft)
        cv2.imwrite(str(seen / f"B-{i}.jpg"), soft)
    cv2.imwrite(str(seen / "B-0.png"), soft)
    batch = {"encoder": method, "cohort": "B", "batch": "0of1"}
    return [
        Item("heatmap", method, **batch, path=part),
        Item("explain", **batch, path=seen),
        Item("encode", **batch, path=folder / "encode" / method / "B" / "0of1"),
        Item("tile", view="512", cohort="B", path=stores),
    ]
