"""Step describe: how patches look by grade of p(HER2+), in 39 features of colour and nuclei."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe.config import GRADES, DescribeSettings
from her2pipe.errors import Her2Error
from her2pipe.files import read_json, replacing_folder, write_table

SETTINGS = (DescribeSettings,)
PLACE = ("slide", "patch", "x", "y", "p", "grade")


@dataclass(frozen=True)
class Slide:
    """A slide's patches as its encoding tells them."""

    coords: np.ndarray  # (N, 2) int32, level-0 px
    p: np.ndarray  # (N,) float64, p(HER2+)
    grade: np.ndarray  # (N,) int, -1 for none


@dataclass(frozen=True)
class Described:
    """A patch that was described, and what of it may be shown."""

    row: dict[str, Any]
    image: np.ndarray  # (h, w, 3) uint8, in the colours that were described
    nuclei: Any
    mpp: float | None  # um per px of the image


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("encodings", nargs="+", help="encodings (.h5), or folders of them")
    parser.add_argument("folder", help="folder to write: features.tsv, ranked.tsv, figures")
    parser.add_argument(
        "--stores", nargs="+", required=True, help="patch stores of the slides, or folders of them"
    )
    parser.add_argument("--model", help="folder of the encoder: its stain target")
    parser.add_argument("--cohort", default="", help="name of the cohort")


def run(args, describe: DescribeSettings) -> None:
    """Describe a sample of graded patches, compare the grades, draw both."""
    from her2pipe.patch_features import features, grades
    from her2pipe.store import encodings

    target = _target(args.model) if describe.normalise else None
    files = {path.stem: path for path in encodings(args.stores)}
    slides, encoder = _slides(encodings(args.encodings), describe)
    plain = {name: slide.grade for name, slide in slides.items()}
    chosen = grades.sample(plain, describe.patches, describe.describe_seed)
    began = time.monotonic()
    rows, shown, about = _measure(chosen, slides, files, target, describe)
    each = 1000 * (time.monotonic() - began) / max(1, len(rows))
    units = features.UNITS | _area_units(about["area_unit"])
    ranked = grades.compare(_columns(rows), _grades(rows), units, describe)
    account = _account(slides, rows, ranked, describe)
    about |= {"algorithm": describe.algorithm, "encoder": encoder, "cohort": args.cohort}
    about |= account | {"notes": account["notes"] + about["notes"]}
    about["settings"] = describe.model_dump(mode="json")
    with replacing_folder(args.folder) as folder:
        write_table(folder / "features.tsv", (*PLACE, *features.NAMES), rows)
        write_table(folder / "ranked.tsv", grades.COLUMNS, ranked)
        _draw(folder, rows, ranked, shown, about, describe)
        (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"describe: {args.cohort}: {len(rows)} patches, {each:.0f} ms each;"
          f" {about['significant']} of {len(ranked)} features differ", file=sys.stderr)  # fmt: skip


def _target(model: str | None):
    """Return the stain target of an encoder."""
    from her2pipe.stain.methods import Profile

    if not model:
        raise Her2Error(
            "patches are described in the encoder's stain target, and no encoder is given",
            "option --model",
            "give the encoder's folder, or --normalise false",
        )
    return Profile.from_dict(read_json(Path(model) / "model.json", "an encoder")["stain"])


def _slides(paths: Sequence[Path], describe: DescribeSettings) -> tuple[dict[str, Slide], str]:
    """Grade the patches of every slide that is not excluded; return also the encoder's name.

    Raises
    ------
    Her2Error
        When an encoding holds no p(HER2+), or one that is not a number.
    """
    from her2pipe.aggregation.base import Bag
    from her2pipe.patch_features import grades
    from her2pipe.store import read_encoding

    found, encoder = {}, ""
    for path in paths:
        encoding = read_encoding(path, features=False)
        about = encoding["attributes"]
        encoder = str(about.get("encoder", ""))
        if about["status"] == "excluded":
            continue
        bag = Bag.of(encoding)
        if "HER2+" not in bag.classes:
            raise Her2Error(
                f"the encoder of {bag.slide} gives no p(HER2+), by which patches are graded",
                str(path),
                "describe an encoder that has the class HER2+",
            )
        bag.validate(path)
        p = bag.probability("HER2+")
        grade = grades.grade(p.astype(np.float32), describe.grades)
        found[bag.slide] = Slide(bag.coords, p, grade)
    return found, encoder


def _measure(
    chosen: Sequence[tuple[str, int, int]],
    slides: Mapping[str, Slide],
    files: Mapping[str, Path],
    target,
    describe: DescribeSettings,
) -> tuple[list[dict[str, Any]], dict[str, list[Described]], dict[str, Any]]:
    """Measure the chosen patches, slide by slide.

    Returns
    -------
    list of dict
        Rows of `features.tsv`.
    dict
        By grade, the patches to show.
    dict
        What `about.json` tells of patches and their resolution.
    """
    rank = {each[:2]: place for place, each in enumerate(chosen)}  # the order drawn
    wanted = set()
    for grade in range(len(GRADES)):
        wanted |= set([each for each in chosen if each[2] == grade][: describe.examples])
    rows, shown, mpps, sizes = [], [], {}, set()
    drawn = {slide for slide, _, _ in chosen}
    for name in [slide for slide in slides if slide in drawn]:
        with _opened(files, name, slides[name].coords) as store:
            about = store.attributes
            mpp = float(about.get("mpp", 0)) * about["patch_size_level0"] / about["patch_size"]
            mpps[name] = mpp if mpp > 0 else None
            sizes.add(int(about["patch_size"]))
            for patch in sorted(i for slide, i, _ in chosen if slide == name):
                found = _patch(store, slides[name], patch, target, mpps[name], describe)
                rows.append(found.row)
                if (name, patch, slides[name].grade[patch]) in wanted:
                    shown.append(found)
    shown.sort(key=lambda each: rank[each.row["slide"], each.row["patch"]])
    by_grade = {g: [each for each in shown if each.row["grade"] == g] for g in GRADES}
    return rows, by_grade, _resolution(rows, mpps, sizes, target, describe)


def _opened(files: Mapping[str, Path], slide: str, coords: np.ndarray):
    """Open the store of a slide.

    Raises
    ------
    Her2Error
        When there is none, or it holds other patches than the encoding.
    """
    from her2pipe.store import PatchStore

    if slide not in files:
        raise Her2Error(
            f"slide {slide} has an encoding, but no patch store is given",
            "option --stores",
            "give the stores the encodings were made of",
        )
    store = PatchStore(files[slide])
    if not np.array_equal(store.coords, coords):
        store.close()
        raise Her2Error(
            f"the store of {slide} holds other patches than its encoding",
            str(files[slide]),
            "give the stores the encodings were made of, or encode again",
        )
    return store


def _patch(store, slide: Slide, patch: int, target, mpp, describe: DescribeSettings) -> Described:
    """Measure one patch; nuclei on the slide's own stains, textures in the target's."""
    from her2pipe.patch_features import features, nuclei
    from her2pipe.stain import methods

    profile, scanned = methods.Profile.from_dict(store.stain), store.pixels(patch)
    image = methods.normalise(scanned, profile, target) if target else scanned
    cells = nuclei.find(scanned, profile, mpp, describe)
    row = {
        "slide": str(store.attributes["slide"]),
        "patch": patch,
        "x": int(slide.coords[patch, 0]),
        "y": int(slide.coords[patch, 1]),
        "p": float(slide.p[patch]),
        "grade": GRADES[slide.grade[patch]],
        **features.texture(image, describe),
        **cells.measure(),
    }
    return Described(row, image, cells, mpp)


def _resolution(rows, mpps, sizes, target, describe: DescribeSettings) -> dict[str, Any]:
    """Bring areas to um^2 where every slide has a resolution; tell what patches measure."""
    without = [slide for slide, mpp in mpps.items() if mpp is None]
    known = sorted(mpp for mpp in mpps.values() if mpp)
    notes = ["patches of one slide count as independent, as published: P is smaller for it"]
    if without:
        named = ", ".join(without[:3]) + (" and others" if len(without) > 3 else "")
        notes.append(
            f"{len(without)} of {len(mpps)} slides have no resolution ({named}): areas of nuclei"
            f" are in px of the patch, and those slides were taken for {describe.nuclei_mpp:g}"
            " um per px of it"
        )
    else:
        for row in rows:
            row["cells_area_mean"] *= mpps[row["slide"]] ** 2
            row["cells_area_var"] *= mpps[row["slide"]] ** 4
    return {
        "patch_px": sorted(sizes),
        "patch_mpp": [known[0], known[-1]] if known else None,
        "area_unit": "px^2" if without else "um^2",
        "colours": "the encoder's stain target" if target else "as scanned",
        "stain_digest": target.digest() if target else "",
        "notes": notes,
    }


def _area_units(unit: str) -> dict[str, str]:
    return {} if unit == "um^2" else {"cells_area_mean": "px²", "cells_area_var": "px⁴"}


def _columns(rows: Sequence[dict]) -> dict[str, np.ndarray]:
    """Return each feature's values, (N,) float."""
    from her2pipe.patch_features import features

    return {name: np.array([row[name] for row in rows], float) for name in features.NAMES}


def _grades(rows: Sequence[dict]) -> np.ndarray:
    return np.array([GRADES.index(row["grade"]) for row in rows], int)


def _account(slides, rows, ranked, describe: DescribeSettings) -> dict[str, Any]:
    """Count patches and slides by grade, and say what is too little for a test."""
    account, notes = {}, []
    bounds = (*describe.grades, 1.0)
    for i, grade in enumerate(GRADES):
        mine = [row for row in rows if row["grade"] == grade]
        account[grade] = {
            "from": bounds[i],
            "to": bounds[i + 1],
            "patches": int(sum((slide.grade == i).sum() for slide in slides.values())),
            "described": len(mine),
            "slides": len({row["slide"] for row in mine}),
        }
        if len(mine) < describe.patches_min:
            few = f"{len(mine)} patches" if mine else "no patch"
            notes.append(f"grade {grade} has {few}, fewer than {describe.patches_min}: not tested")
    if not any("P" in row for row in ranked):
        notes.append("no feature could be tested: fewer than two grades have enough patches")
    elif not any(row.get("significant") for row in ranked):
        notes.append("no feature differs between the grades")
    return {
        "slides": len(slides),
        "ungraded": int(sum((slide.grade < 0).sum() for slide in slides.values())),
        "grades": account,
        "described": len(rows),
        "features": len(ranked),
        "significant": sum(bool(row.get("significant")) for row in ranked),
        "notes": notes,
    }


def _draw(folder: Path, rows, ranked, shown, about, describe: DescribeSettings) -> None:
    """Draw the features that differ (Fig. S2), and examples of each grade (Fig. S3)."""
    from her2pipe.patch_features import grades
    from her2pipe.plotting import patch_examples, style

    title = f"{about['cohort']}, graded by {about['encoder']}".strip(", ")
    columns, own = _columns(rows), _grades(rows)
    differ = [row for row in ranked if row.get("significant")][: describe.boxes]
    if differ:
        drawn = [
            patch_examples.Panel(
                f"{row['rank']}. {row['feature']}",
                style.format_p(float(row["P_holm"])),
                row["unit"],
                grades.by_grade(columns[row["feature"]], own, 1),
            )
            for row in differ
        ]
        counts = ", ".join(f"{g} {about['grades'][g]['described']:,}" for g in GRADES)
        foot = (
            f"grade of p(HER2+); n of patches: {counts}. Kruskal-Wallis P, Holm-adjusted over"
            f" {about['features']} features; {len(differ)} of {about['significant']} that differ"
        )
        style.save(patch_examples.boxes(drawn, GRADES, title, foot), folder / "boxes")
    if rows:
        for name, outlined in (("examples", False), ("nuclei", True)):
            sheet = {
                _label(grade, about["grades"][grade]): [_example(e, outlined) for e in found]
                for grade, found in shown.items()
            }
            figure = patch_examples.examples(sheet, describe.examples, title)
            style.save(figure, folder / name, formats=("png",))


def _label(grade: str, about: dict[str, Any]) -> str:
    p = (
        f"{about['from']:g} ≤ p < {about['to']:g}"
        if grade != GRADES[-1]
        else f"p ≥ {about['from']:g}"
    )
    return f"grade {grade}\n{p}\nn = {about['patches']:,}"


def _example(found: Described, outlined: bool):
    """Prepare a patch to be shown, bare with its slide and p, or with its nuclei outlined."""
    from her2pipe.patch_features import nuclei
    from her2pipe.plotting import patch_examples

    if outlined:
        image, title = (
            nuclei.outline(found.image, found.nuclei),
            f"{found.row['cells_num']:.0f} nuclei",
        )
    else:
        image, title = found.image, f"{found.row['slide']}, p = {found.row['p']:.3f}"
    return patch_examples.Example(image, title, found.mpp)
