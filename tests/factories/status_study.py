"""A small synthetic study of HER2 status: the outputs of all steps before report."""

import json

import numpy as np
from figure_text import roc_curve
from manifests import write_manifest
from stores import make_encoding, make_store, stained

from her2pipe.files import write_table
from her2pipe.manifest import Item
from her2pipe.plotting import charts, style

NASTY = "<script>alert(1)</script>"
SHY = "<script>alert(1)<!--"  # as nasty, and yet a name that a file can have
LEVELS = ("0", "1+", "2+/FISH-", "2+/FISH+", "3+")
COLUMNS = (
    *("slide", "patient", "score", "level", "positive", "true_level", "pcr", "rcb", "used"),
    "exclusion_reason",
)
SLIDES = [
    {
        "slide": f"S{i}",
        "patient": f"P{i // 2}",
        "score": i / 10,
        "level": LEVELS[i],
        "positive": i > 2,
        "true_level": LEVELS[i],
        "used": True,
        "exclusion_reason": "",
    }
    for i in range(5)
] + [
    {
        "slide": SHY,
        "patient": "P9",
        "score": 0.45,
        "level": "3+",
        "positive": True,
        "true_level": "3+",
        "used": True,
        "exclusion_reason": "",
    },
    {
        "slide": "S7",
        "patient": "P7",
        "used": True,
        "score": 0.2,
        "level": "1+",
        "exclusion_reason": "no binary status: IHC 2+ without ISH",
    },
    {
        "slide": NASTY,
        "patient": "P8",
        "used": False,
        "exclusion_reason": "excluded: no tissue: none",
    },
]
METRICS = {
    "method": "TL-PA",
    "encoder": "swin-t",
    "aggregation": "probabilistic",
    "cohort": "C",
    "role": "external",
    "slides": 8,
    "evaluated": 7,
    "auc": {
        "n": 6,
        "positives": 3,
        "endpoint": "HER2-positive v HER2-negative",
        "value": 0.9,
        "low": 0.7,
        "high": 1.0,
        "interval": "DeLong",
    },
    "levels": {
        "n": 6,
        "groups": {"0": 1, "1+": 1, "2+/FISH-": 1, "2+/FISH+": 1, "3+": 2},
        "spearman": {"rho": 0.5, "p": 0.01, "low": 0.1, "high": 0.8, "interval": "Bonett-Wright"},
    },
    "operating_point": {
        "n": 6,
        "rule": "level 2+/FISH+ or higher",
        "sensitivity": {"value": 1.0, "low": 0.44, "high": 1.0, "n": 3, "interval": "Wilson"},
    },
}
MODEL = {
    "architecture": "swin_t",
    "input_px": 56,
    "features": 768,
    "parameters": {"total": 27503229, "trainable": 1000},
    "train_views": ["1024"],
    "training_set": [
        {
            "side": "train",
            "view": "1024",
            "kind": kind,
            "available": n,
            "used": used,
            "slides": 4,
            "patients": 3,
        }
        for kind, n, used in (("HER2-", 90664, 63464), ("HER2+", 97264, 68084))
    ],
    "versions": {"torch": "2.0"},
}


def study(folder):
    """Write the folders and return the words of `her2pipe report`, the page left out."""
    evaluate = folder / "evaluate" / "TL-PA" / "C"
    evaluate.mkdir(parents=True)
    (evaluate / "metrics.json").write_text(json.dumps(METRICS))
    write_table(evaluate / "slides.tsv", COLUMNS, SLIDES)
    known = [row for row in SLIDES if "positive" in row]
    curve = roc_curve([row["positive"] for row in known], [row["score"] for row in known])
    style.save(charts.roc({"HER2-positive": curve}), evaluate / "roc")
    style.save(charts.boxes({"0": [0.1], "3+": [0.3, 0.4]}), evaluate / "levels")
    compare = folder / "compare"
    compare.mkdir()
    about = {"method": "TL-PA", "encoder": "swin-t", "aggregation": "probabilistic"}
    table2 = {
        "feature_extraction": "✓",
        "instance_aggregation": "–",
        "feature_dimension": "N/A",
        "aggregation_method": "Rule-based",
        "internal_auc": 0.75,
        "external_mean": 0.8,
        "external_sd": 0.02,
        "external_low": 0.7,
        "external_high": 0.9,
        "external_cohorts": 1,
        "published_external_mean": 0.76,
        "published_external_sd": 0.01,
        "published_internal_auc": 0.75,
        "published_note": "as its own paper reports",
    }
    write_table(compare / "table2.tsv", (*about, *table2), [about | table2])
    methods = {"cohort": "C", "n": 6, "auc": 0.9, "low": 0.7, "high": 1.0}
    others = [
        about | methods | {"method": name, "auc": auc}
        for name, auc in (("B2", 0.5), ("B10", 0.05), ("none", None))
    ]
    write_table(compare / "methods.tsv", (*about, *methods), [about | methods, *others])
    write_table(
        compare / "new.tsv",
        ("method", "p_value", "odd_low", "odd_high", "odd"),
        [{"method": "TL-PA", "p_value": 0.0004, "odd": 0.5, "odd_low": 0.25, "odd_high": 0.75}],
    )
    write_table(compare / "timing.tsv", ("method", "seconds"), [{"method": "a", "seconds": 1.5}])
    style.save(charts.forest([{"method": "TL-PA", **methods}]), compare / "forest")
    ledger = folder / "ledger.tsv"
    write_table(
        ledger,
        ("slide", "patient", "cohort", "status", "reason"),
        [
            {**row, "cohort": "C", "status": "excluded", "reason": f"no tissue: {NASTY}"}
            if row["slide"] == NASTY
            else {**row, "cohort": "C", "status": "scored"}
            for row in SLIDES
        ],
    )
    model = folder / "train" / "swin-t"
    model.mkdir(parents=True)
    (model / "model.json").write_text(json.dumps(MODEL))
    sheet = folder / "C.tsv"
    sheet.write_text(
        "slide\tpath\tpatient\tihc\ter\tscanner\nS0\ta\tP0\t3+\tpositive\tAT2\n"
        "S1\tb\tP0\t0\tnegative\tAT2\nS2\tc\tP1\t2+\t\tGT450\n"
    )
    (folder / "study.json").write_text(
        json.dumps({"title": "A & B", "cohorts": {"C": {"title": "Centre"}}})
    )
    items = [
        Item("compare", path=compare),
        Item("ledger", path=ledger),
        Item("evaluate", "TL-PA", "swin-t", cohort="C", path=evaluate),
        Item("train", encoder="swin-t", path=model),
        Item("sheet", cohort="C", path=sheet),
        *_slides(folder),
    ]
    manifest = write_manifest(folder / "manifest.tsv", items)
    return [manifest, "--study", folder / "study.json", "--benchmarks", _benchmarks(folder)]


def _slides(folder):
    """Write stores, encodings and heat maps of all slides but the last two."""
    import cv2

    parts = {k: folder / k / "swin-t" / "C" / "0of1" for k in ("heatmap", "encode")}
    stores = folder / "tile" / "adaptive" / "C"
    for part in (*parts.values(), stores):
        part.mkdir(parents=True)
    corners = [(64 * (i % 4), 64 * (i // 4)) for i in range(6)]
    for row in SLIDES[:6]:
        slide = row["slide"]
        make_store(stores / f"{slide}.h5", stained(6, seed=1), corners, slide=slide)
        p = np.linspace([0.8, 0.1, 0.1], [0.1, 0.8, 0.1], 6)
        make_encoding(parts["encode"] / f"{slide}.h5", p)
        cv2.imwrite(str(parts["heatmap"] / f"{slide}.png"), np.full((60, 180, 3), 200, np.uint8))
    batch = {"encoder": "swin-t", "cohort": "C", "batch": "0of1"}
    return [
        Item("heatmap", "TL-PA", **batch, path=parts["heatmap"]),
        Item("encode", **batch, path=parts["encode"]),
        Item("tile", view="adaptive", cohort="C", path=stores),
    ]


def _benchmarks(folder):
    for path, seconds in (
        ("tile/adaptive/C/S1.tsv", 2),
        ("tile/adaptive/C/S2.tsv", 4),
        ("compare.tsv", 3),
    ):
        file = folder / "benchmarks" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"s\th:m:s\tmax_rss\n{seconds}.0\t0:00:0{seconds}\t100.5\n")
    return folder / "benchmarks"
