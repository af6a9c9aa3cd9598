"""A made-up study that tells three ordered classes apart, as evaluate leaves it."""

import json

import numpy as np

from her2pipe import plots, stats
from her2pipe.files import write_table

NAMES = ("1+", "2+", "3+")
COLUMNS = ("slide", "patient", "true_class", "call", "score", *(f"p_{n}" for n in NAMES), "margin",
           "flag", "used", "why_not")  # fmt: skip


def slides(n=30, noise=0.6, seed=1, drawn=2):
    """Slides whose truth and patients are the same for every `seed`; some do not count."""
    truth, random = np.random.default_rng(drawn).integers(0, 3, n), np.random.default_rng(seed)
    rows = []
    for i, level in enumerate(truth):
        at = level + random.normal(0, noise)
        p = np.exp(-2 * (np.arange(3) - at) ** 2)
        p = (p / p.sum()).round(6)
        top = np.sort(p)[::-1]
        call = NAMES[int(p.argmax())]
        rows.append(
            {"slide": f"S{i}", "patient": f"P{i * 2 // 3}", "true_class": NAMES[level],
             "call": call, "score": float(p @ np.arange(3) / 2),
             "margin": float(top[0] - top[1]),
             "flag": "reflex" if call == "2+" or top[0] - top[1] < 0.1 else "", "used": True}
            | {f"p_{name}": float(each) for name, each in zip(NAMES, p, strict=True)}
        )  # fmt: skip
    rows[-1] |= {"used": False, "why_not": "training slide"}
    rows[-2] |= {"true_class": "", "why_not": "ihc is 0: not a class of this study"}
    gone = dict.fromkeys(("call", "score", "margin", *(f"p_{n}" for n in NAMES)))
    rows[-3] |= gone | {"flag": "excluded", "used": False, "why_not": "excluded: no annotation"}
    return rows


def unit(truth, p, patients):
    """The numbers of one unit: tiles, slides or patients."""
    truth, p = np.array(truth), np.array(p)
    called = np.array(NAMES)[p.argmax(1)]
    areas = stats.class_aucs(truth, p, NAMES)
    macro = stats.contrast(
        stats.macro_auc(truth, p, NAMES), stats.macro_draws(truth, p, patients, NAMES, 200)
    )
    counts = stats.confusion(truth, called, NAMES)
    wrong = int((truth != called).sum())
    near = int(np.diag(counts, 1).sum() + np.diag(counts, -1).sum())
    kappa = stats.quadratic_kappa(truth, called, NAMES)
    return {
        "n": len(truth),
        "macro_auc": {key: getattr(macro, key) for key in ("value", "low", "high")},
        "per_class": {
            name: {
                "n": int((truth == name).sum()),
                "auc": areas[name]._asdict(),
                "sensitivity": stats.sensitivity(truth, called, name)._asdict(),
                "specificity": stats.specificity(truth, called, name)._asdict(),
            }
            for name in NAMES
        },
        "accuracy": stats.accuracy(truth, called)._asdict(),
        "balanced_accuracy": {"value": stats.balanced_accuracy(truth, called)},
        "f1": {"value": stats.f1(truth, called)},
        "kappa": {"value": kappa, "low": kappa - 0.1, "high": 1.0, "weights": "quadratic"},
        "errors": {"n": wrong, "neighbours": near, "share": near / wrong if wrong else None},
        "confusion": counts.tolist(),
    }


def evaluation(folder, method, cohort="B", role="external", rows=None, encoder="", pictures=False):
    """Write what evaluate leaves of one method on one cohort."""
    rows = slides() if rows is None else rows
    folder = folder / "evaluate" / method / cohort
    folder.mkdir(parents=True)
    write_table(folder / "slides.tsv", COLUMNS, rows)
    used = [r for r in rows if r["used"] and r["true_class"]]
    p = [[r[f"p_{n}"] for n in NAMES] for r in used]
    truth, patients = [r["true_class"] for r in used], [r["patient"] for r in used]
    found = unit(truth, p, patients)
    flagged = [r for r in used if r["flag"] == "reflex"]
    rest = [r for r in used if r["flag"] != "reflex"]
    right = sum(r["call"] == r["true_class"] for r in rest)
    metrics = {
        "algorithm": 1, "endpoint": "class", "classes": list(NAMES), "ordered": True,
        "method": method, "encoder": encoder or method.lower(), "aggregation": "mean",
        "trained": "encoder", "features": 3, "cohort": cohort, "role": role, "slides": len(rows),
        "patients": len({r["patient"] for r in rows}), "evaluated": len(used),
        "left_out": {"training slide": 1, "ihc is 0: not a class of this study": 1, "excluded": 1},
        "auc": {"n": len(used), "endpoint": f"macro-AUC of {', '.join(NAMES)}"}
        | found["macro_auc"],
        "units": {"tile": unit(truth * 4, np.repeat([p], 4, 0).reshape(-1, 3), patients * 4),
                  "slide": found, "patient": found},
        "reflex": {"n": len(flagged), "of": len(used), "slides": [r["slide"] for r in flagged],
                   "accuracy_of_the_rest": stats.wilson(right, len(rest))._asdict()},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if pictures:
        _pictures(folder, np.array(truth), np.array(p), found, used)
    return folder


def _pictures(folder, truth, p, found, used):
    curves = {}
    for name, column in zip(NAMES, p.T, strict=True):
        area = found["per_class"][name]["auc"]
        numbers = [area[key] for key in ("value", "low", "high")]
        curves[name] = (*stats.roc(truth == name, column)[:2], *numbers, len(truth))
    plots.save(plots.roc(curves), folder / "roc")
    plots.save(plots.roc(curves, items="tiles"), folder / "tile_roc")
    matrix = plots.confusion(found["confusion"], NAMES, "", "true class", "called class")
    plots.save(matrix, folder / "confusion")
    groups = {n: [r["score"] for r in used if r["true_class"] == n] for n in NAMES}
    plots.save(plots.boxes(groups, "expected grade", "class"), folder / "grades")
