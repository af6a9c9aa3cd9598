"""The slides a page shows: which of them, their maps, and the colours of their cohorts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from her2pipe.reporting.html import drawing, figure, known, number, photograph

Rows = Sequence[Mapping[str, str]]
LOOKED_AT, GLASS = 32, 200  # patches; grey level above which all channels of glass are
P = "p(HER2+) of each kept patch"
WHAT = {"probabilistic": P, "mean": P, "": P}
OF_CLASSES = {  # by whether the study's classes have an order
    True: "the expected class of each kept patch, 0 for the first class to 1 for the last",
    False: "the largest class probability of each kept patch",
}


class Shelf:
    """Where the patch stores and encodings of a study's slides lie.

    Attributes
    ----------
    slides : dict
        Cohort to its slides that are not excluded, in the order of the ledger.
    """

    def __init__(self, ledger: Rows, tile: Mapping[str, str], encode: Sequence[str]):
        self._tile = {name: Path(folder) for name, folder in tile.items()}
        self._encode = [Path(folder) for folder in encode]
        self.slides: dict[str, list[str]] = {}
        for row in ledger:
            kept = self.slides.setdefault(row["cohort"], [])
            if row["status"] != "excluded":
                kept.append(row["slide"])

    @cached_property
    def encodings(self) -> dict[tuple[str, str], Path]:
        """(cohort, slide) to its encoding."""
        from her2pipe.store import encodings

        return {(path.parents[1].name, path.stem): path for path in encodings(self._encode)}

    def store(self, cohort: str, slide: str) -> Path | None:
        """Return the patch store of a slide, None when it is not at hand."""
        path = self._tile[cohort] / f"{slide}.h5" if cohort in self._tile else None
        return path if path and path.exists() else None

    @cached_property
    def facts(self) -> dict[str, list[dict[str, Any]]]:
        """Cohort to what the stores say of their slides and how many patches they hold."""
        from her2pipe.store import read_summary

        found = {}
        for cohort, slides in self.slides.items():
            own = [read_summary(path) for s in slides if (path := self.store(cohort, s))]
            packed = {} if own else self._packed(cohort)
            found[cohort] = own or [packed[s] for s in slides if s in packed]
        return found

    def _packed(self, cohort: str) -> dict[str, dict[str, Any]]:
        """Return what the packs of a cohort of images say of each."""
        from her2pipe.store import read_images

        found = {}
        for path in sorted(self._tile[cohort].glob("*.h5")) if cohort in self._tile else []:
            if images := read_images(path):
                facts = {name: images.of(i) for i, name in enumerate(images.names)}
                found |= {name: about | {"patches": 1} for name, about in facts.items()}
        return found


def choose(slides: Sequence[str], table: Rows, most: int) -> list[dict[str, str]]:
    """Choose slides of a cohort evenly from the lowest to the highest score.

    Those the method was tested on come first; slides a method learnt from only when there is no
    other. Without scores the first by name are taken.
    """
    scored = [r for r in table if r["slide"] in set(slides) and known(r["score"]) is not None]
    tested = [r for r in scored if r.get("used") == "True"] or scored
    if not tested:
        return [{"slide": slide} for slide in sorted(slides)[:most]]
    order = sorted(tested, key=lambda r: (float(r["score"]), r["slide"]))
    if len(order) <= most or most < 2:
        return [dict(r) for r in order[:most]]
    step = (len(order) - 1) / (most - 1)
    return [dict(order[round(i * step)]) for i in range(most)]


def maps(
    folders: Sequence[str], evaluations: Sequence[Mapping], shelf: Shelf, most: int, longest_px: int
) -> list[dict[str, Any]]:
    """Lay out heat maps of each method and cohort: the figure, and the slide to zoom into.

    `most` is slides per cohort; `longest_px` the longer side of a slide to zoom into, 0 for none.
    """
    pictures: dict[tuple[str, str], dict[str, Path]] = {}
    for folder in map(Path, folders):
        own = pictures.setdefault((folder.parent.parent.name, folder.parent.name), {})
        own |= {path.stem: path for path in folder.glob("*.png")}
    tables = {(e["method"], e["cohort"]): e["table"] for e in evaluations}
    rules = {e["method"]: e.get("aggregation", "") for e in evaluations}
    ordered = {e["method"]: e.get("ordered") for e in evaluations}
    found = []
    for (method, cohort), paths in pictures.items():
        for row in choose(list(paths), tables.get((method, cohort), []), most):
            slide, about = row["slide"], told(row)
            what = WHAT.get(rules.get(method, ""), "what each kept patch adds to the score")
            what = OF_CLASSES[ordered[method]] if ordered.get(method) is not None else what
            caption = (
                f"Cohort {cohort}, slide {slide}, method {method}. {about}Left, the slide; then "
                f"{what}; right, its most probable class where the encoder has classes."
            )
            alt = f"Slide {slide} of cohort {cohort}: overview and maps of its patches. {about}"
            found.append(
                {
                    "cohort": cohort,
                    "method": method,
                    "slide": slide,
                    "figure": figure(photograph(paths[slide]), alt.strip(), caption, wide=True),
                    # The encodings at hand are those of the first method.
                    "view": _view(shelf, cohort, slide, longest_px, ordered.get(method))
                    if longest_px and method == next(iter(pictures))[0]
                    else None,
                }
            )
    return found


def told(row: Mapping[str, str]) -> str:
    """Tell a slide's score, or call, and label."""
    if known(row.get("score")) is None:
        return ""
    if "true_class" in row:
        p = number(row.get(f"p_{row['call']}"), 2)
        reflex = ", flagged for reflex FISH" if row.get("flag") == "reflex" else ""
        return f"Called {row['call']} (p {p}){reflex}; sheet: {row['true_class'] or 'no class'}. "
    level = f", level {row['level']}" if row.get("level") else ""
    status = {"True": "HER2-positive", "False": "HER2-negative"}.get(row.get("positive", ""))
    label = ", ".join(filter(None, (status, row.get("true_level"))))
    response = {"True": "pCR", "False": "non-pCR"}.get(row.get("pcr", ""), "")
    label = ", ".join(filter(None, (label, response))) or "no label"
    return f"HER2 score {number(row['score'], 2)}{level}; sheet: {label}. "


def _view(
    shelf: Shelf, cohort: str, slide: str, longest_px: int, ordered: bool | None
) -> dict[str, Any] | None:
    """Make a slide to zoom into, when its store and encoding are at hand."""
    from her2pipe.reporting import slide_viewer
    from her2pipe.store import PatchStore, read_encoding

    path, encoding = shelf.store(cohort, slide), shelf.encodings.get((cohort, slide))
    if path is None or encoding is None:
        return None
    encoded = read_encoding(encoding, features=False)
    names = json.loads(encoded["attributes"]["classes"])
    with PatchStore(path) as store:
        if store.excluded or not store.overview:
            return None
        return slide_viewer.view(store, encoded, names, longest_px, ordered)


def colours(shelf: Shelf, target: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Draw the slides' stain vectors by cohort, and patches before and after normalisation."""
    from her2pipe.plotting import overlays as pictures
    from her2pipe.stain.methods import Profile, normalise
    from her2pipe.store import PatchStore, read_attributes

    vectors: dict[str, list] = {cohort: [] for cohort in shelf.slides}  # in the study's order
    for (cohort, _), path in shelf.encodings.items():
        stain = json.loads(read_attributes(path).get("stain", "{}"))
        if stain and stain["method"] != "none":
            vectors.setdefault(cohort, []).append(stain["matrix"])
    vectors = {cohort: found for cohort, found in vectors.items() if found}
    if not vectors or not target:
        return []
    sizes = ", ".join(f"{name}: {len(found):,}" for name, found in vectors.items())
    found = [
        figure(
            _drawn(pictures.stains(vectors, target["matrix"])),
            "Stain vectors of every slide by cohort, and the target they are brought to.",
            "Stain vectors of every slide, as shares of red and blue in their optical density. "
            "Cohorts that lie apart were stained or scanned differently; patches are brought to "
            f"the target before the encoder sees them. n slides: {sizes}.",
        )
    ]
    images, titles = [], []
    for cohort, slides in shelf.slides.items():
        path = next(filter(None, (shelf.store(cohort, slide) for slide in slides)), None)
        if path is None:
            continue
        with PatchStore(path) as store:
            if store.excluded or not store.stain:
                continue
            patch = store.pixels(_fullest(store), at_least_px=224)
            source = Profile.from_dict(store.stain)
        images += [patch, normalise(patch, source, Profile.from_dict(target))]
        titles += [f"{cohort}, before", f"{cohort}, after"]
    if images:
        found.append(
            figure(
                _drawn(pictures.patches(images, titles), "png"),
                "One patch of each cohort before and after stain normalisation.",
                "One patch of the first slide of each cohort, that of least glass among "
                f"{LOOKED_AT}, before and after normalisation.",
                wide=True,
            )
        )
    return found


def _fullest(store) -> int:
    """Return the patch of least glass among some, taken evenly."""
    import numpy as np

    some = np.unique(np.linspace(0, len(store) - 1, LOOKED_AT).astype(int))
    glass = [(store.pixels(int(i), at_least_px=64).min(axis=2) > GLASS).mean() for i in some]
    return int(some[int(np.argmin(glass))])


def _drawn(shape, kind: str = "svg") -> str:
    """Return a figure as a data address: lines as SVG, photographs as JPEG."""
    from her2pipe.plotting import style

    with tempfile.TemporaryDirectory() as folder:
        path = style.save(shape, Path(folder) / "figure", (kind,))[0]
        return drawing(path) if kind == "svg" else photograph(path)
