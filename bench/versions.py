"""Time the same work by another checkout and by this one, in turn, and compare what they write.

    bench/versions.py [--beside /another/checkout] [--rounds 3] [--only WORD ...] [--all] [--quick]

The other checkout, of before a change, has an environment of its own (`make setup` in it). Inputs
are made by it, once, and both read them, as a study that was begun before goes on after. Work
starts as a user or Snakemake starts it, by the command line that both have, on one thread; rounds
take the two in turn. Ratios of processor time, processes that are started included, are those of
pairs: median, least and greatest. Without `--beside` the checkout is compared with itself: what
differs is noise. `--only` takes the works whose names hold one of the words; `--all` also those
that take minutes, each of them once.

Outputs of the last round are compared: stores and encodings by their datasets, pictures in them by
their pixels, and their bytes are given; weights by their arrays; tables by the columns and JSON by
the keys that both have; anything else by its bytes. Settings, versions and dates are not looked at.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import growth
import numpy as np
import startup
import yaml
from _checkouts import Checkout, CommandError, Usage, spread

SERVER = "HER2PIPE_JOB_SERVER"  # "0": a command does its work itself
DATA = Path(os.environ.get("HER2PIPE_DATA") or Path(__file__).parents[2] / "shared" / "data")
REAL = DATA / "her2st/C2_HE.jpg"
COHORT = [f"C{number:02d}" for number in range(1, 13)]  # 12 slides, 35 patches each
FEW = 6  # of them, in a training
NETWORKS = {"resnet10t": 64, "swin_tiny_patch4_window7_224": 56}  # and their input, px
SIDES = (512, 1024, 1448)  # of squares, level-0 px
SHOWN = 3  # names of what differs


@dataclass(frozen=True)
class Work:
    """Something that both do, and are timed at.

    Attributes
    ----------
    name : str
    run : callable
        Given a checkout and a folder that holds the inputs.
    needs : tuple of str
        Inputs, of `INPUTS`.
    outputs : tuple of str
        Patterns of the files that are compared, in that folder.
    is_long : bool
        Whether it takes minutes.
    is_quick : bool
        Whether it is one of the quick form.
    """

    name: str
    run: Callable[[Checkout, Path], Usage]
    needs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    is_long: bool = False
    is_quick: bool = False


# --- inputs ---------------------------------------------------------------------------------------


def write_sheet(path: Path, slides: Sequence[str], columns: Mapping[str, Sequence[object]]) -> None:
    """Write a sheet of slides of as many patients, every second one positive."""
    rows = [["slide", "patient", "her2", *columns]]
    for number, slide in enumerate(slides):
        cells = [str(values[number]) for values in columns.values()]
        rows.append([slide, f"P{slide}", ("negative", "positive")[number % 2], *cells])
    path.write_text("".join("\t".join(row) + "\n" for row in rows))


def make_sections(checkout: Checkout, folder: Path) -> None:
    """Draw a section of 120 Mpx, and make a slide of a real one where there is its image."""
    size = ["--width-um", "3200", "--height-um", "2600"]
    checkout.her2pipe(["synthesise", "drawn.svs", "--severity", "3", *size], folder)
    if REAL.exists():
        checkout.her2pipe(["synthesise", "real.svs", "--image", REAL, "--mpp", "0.25"], folder)


def make_cohort(checkout: Checkout, folder: Path) -> None:
    """Draw small slides, cut them into patches, and make networks that are not trained."""
    for number, slide in enumerate(COHORT):
        words = ["--seed", number, "--severity", (0, 4)[number % 2], "--xml", f"{slide}.xml"]
        size = ["--width-um", 600, "--height-um", 500]
        checkout.her2pipe(["synthesise", f"{slide}.svs", *words, *size], folder)
        words = ["--view", 256, "--patch-px", 256, "--annotation", f"{slide}.xml"]
        checkout.her2pipe(["tile", f"{slide}.svs", f"cohort/{slide}.h5", *words], folder)
    sides = [("train", "validation")[number % 6 > 3] for number in range(len(COHORT))]
    paths = [f"{slide}.svs" for slide in COHORT]
    for name, count in (("cohort", len(COHORT)), ("few", FEW)):
        columns = {"path": paths, "split": sides}
        write_sheet(folder / f"{name}.tsv", COHORT[:count], columns)
    for name, side in NETWORKS.items():
        words = ["--sheet", "cohort.tsv", *network_words(name, side, 256), "--task", "none"]
        checkout.her2pipe(["train", "cohort", name, *words], folder)


def network_words(name: str, side: int, view: int) -> list[object]:
    """Return options of `train` for a network without weights."""
    words = ["--architecture", name, "--weights", "none", "--input-px", side, "--train-views", view]
    return [*words, "--device", "cpu", "--threads", 1]


def make_bags(checkout: Checkout, folder: Path) -> None:
    """Cut the same slides into some 1,000 patches each, and encode them, 512 features."""
    for slide in COHORT:
        words = ["--view", 32, "--patch-px", 32]
        checkout.her2pipe(["tile", f"{slide}.svs", f"bags/{slide}.h5", *words], folder)
    words = ["--sheet", "cohort.tsv", *network_words("resnet10t", 32, 32), "--task", "none"]
    checkout.her2pipe(["train", "bags", "bag-network", *words], folder)
    words = ["--model", "bag-network", "--device", "cpu", "--threads", 1]
    stores = [f"bags/{slide}.h5" for slide in COHORT]
    checkout.her2pipe(["encode", *stores, "bag-encodings", *words], folder)


INPUTS: dict[str, tuple[tuple[str, ...], Callable[[Checkout, Path], None]]] = {
    "four slides": ((), startup.prepare),
    "sections": ((), make_sections),
    "cohort": ((), make_cohort),
    "bags": (("cohort",), make_bags),
}


class Inputs:
    """Makes inputs when they are first needed."""

    def __init__(self, checkout: Checkout, folder: Path) -> None:
        self._checkout, self._folder = checkout, folder
        folder.mkdir()
        self._made: set[str] = set()

    def make(self, names: Sequence[str]) -> None:
        """Make some inputs, and those that they are made of."""
        for name in names:
            needs, function = INPUTS[name]
            self.make(needs)
            if name not in self._made:
                print(f"makes inputs: {name}", file=sys.stderr, flush=True)
                function(self._checkout, self._folder)
                self._made.add(name)

    def link(self, folder: Path, outputs: Sequence[str]) -> None:
        """Make a folder with links to all inputs but those that a work writes itself."""
        folder.mkdir(parents=True)
        written = {pattern.partition("/")[0] for pattern in outputs}
        for path in self._folder.iterdir():
            if path.name not in written:
                (folder / path.name).symlink_to(path)


# --- work -----------------------------------------------------------------------------------------


def command(*words: object) -> Callable[[Checkout, Path], Usage]:
    """Return work that is a command of her2pipe, by itself."""

    def run(checkout: Checkout, folder: Path) -> Usage:
        os.environ[SERVER] = "0"
        return checkout.her2pipe(words, folder)

    return run


def import_settings(checkout: Checkout, folder: Path) -> Usage:
    """Import the settings."""
    return checkout.run(["-c", "import her2pipe.config"], folder)


def plan(slides: int, checkout: Checkout, folder: Path) -> Usage:
    """Plan a study of so many slides and eight methods, all to do; its jobs are an output."""
    growth.simulate(folder, growth.of_four(slides))
    usage = checkout.snakemake(folder, *growth.DRY, "--quiet", "rules")
    counts = re.findall(r"^(\w+) +(\d+)$", usage.text, re.MULTILINE)
    (folder / "jobs.json").write_text(json.dumps(dict(counts)))
    return usage


def run_study(slides: int, targets: Sequence[str], checkout: Checkout, folder: Path) -> Usage:
    """Run a small study of two cohorts through Snakemake: some targets of it, or all."""
    os.environ.pop(SERVER, None)
    sheets, study = folder / "sheets", small_study()
    sheets.mkdir()
    for name in study["cohorts"]:
        rows = [f"{name}-{number}" for number in range(slides)]
        base = [f"results/synthesise/{name}/{row}" for row in rows]
        columns = {
            "path": [f"{path}.svs" for path in base],
            "annotation": [f"{path}.xml" for path in base],
            "seed": range(slides),
            "severity": [(0, 4)[number % 2] for number in range(slides)],
        }
        write_sheet(sheets / f"{name}.tsv", rows, columns)
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    wanted = [target.format(number) for target in targets for number in range(slides)]
    return checkout.snakemake(folder, *wanted, "--cores", "1")


def small_study() -> dict[str, Any]:
    """Return a study of a small network and two methods, one of which is fitted."""
    return {
        "cohorts": {
            "A": {"sheet": "sheets/A.tsv", "role": "development"},
            "B": {"sheet": "sheets/B.tsv", "role": "external"},
        },
        "split": {"validation_fraction": 0.4},
        "synthesise": {"width_um": 260, "height_um": 220},
        "tile": {"adaptive_area_px0": 6.3e6, "patch_px": 128},
        "train": {
            **{"architecture": "test_resnet", "input_px": 64, "train_views": ["adaptive"]},
            **{"max_epochs": 1, "frozen": [], "fractions": {}, "device": "cpu"},
        },
        "encoders": {"small": {}},
        "encode": {"device": "cpu"},
        "methods": {
            "TL-PA": {"encoder": "small"},
            "TL-mlp": {"encoder": "small", "aggregate": "mlp"},
        },
        "fit": {"folds": 2, "max_epochs": 2, "device": "cpu"},
    }


STARTS = {
    "ledger": ("ledger.tsv",),
    "score, by a formula": ("A.tsv",),
    "score, by a network": ("clam.tsv",),
    "evaluate": ("evaluate/*.json", "evaluate/*.tsv"),
    "encode": ("encode/*.h5",),
}
# What a fit and a training are measured at.
FITS = {"clam": 20, "slidegraph": 100}  # epochs
STORES = ("results/tile/adaptive/A/A-{}.h5", "results/tile/adaptive/B/B-{}.h5")


def works() -> Iterator[Work]:
    """Yield all works, in the order of their table."""
    yield Work("import of her2pipe.config", import_settings, is_quick=True)
    for verb, outputs in STARTS.items():
        name = "encode, four slides of few patches" if verb == "encode" else verb
        run, is_quick = command(*startup.VERBS[verb]), verb in ("ledger", "score, by a formula")
        yield Work(f"start: {name}", run, ("four slides",), outputs, is_quick=is_quick)
    for slide in ("drawn", "real"):
        for side in SIDES:
            run = command("tile", f"{slide}.svs", "cut.h5", "--view", side)
            name = f"tile: {slide} section, {side} → 512"
            yield Work(name, run, ("sections",), ("cut.h5",))
    yield Work(
        "tile: a small slide, 256 → 64",
        command(*startup.VERBS["tile"]),
        ("four slides",),
        ("again.h5",),
        is_quick=True,
    )
    stores = [f"cohort/{slide}.h5" for slide in COHORT]
    for name, side in NETWORKS.items():
        words = ["--model", name, "--device", "cpu", "--threads", 1]
        yield Work(
            f"encode: {len(COHORT)} slides, {name} at {side} px",
            command("encode", *stores, "encoded", *words),
            ("cohort",),
            ("encoded/*.h5",),
        )
    name, side = "swin_tiny_patch4_window7_224", 56
    words = ["--sheet", "few.tsv", *network_words(name, side, 256), "--max-epochs", 1]
    yield Work(
        f"train: an epoch, {FEW} slides, {name} at {side} px",
        command("train", *stores[:FEW], "trained", *words, "--batch-size", 16, "--frozen"),
        ("cohort",),
        ("trained/model.safetensors",),
    )
    for name, epochs in FITS.items():
        words = ["--sheet", "cohort.tsv", "--aggregate", name, "--folds", 2, "--max-epochs", epochs]
        words += ["--min-epochs", epochs, "--device", "cpu", "--threads", 1]
        yield Work(
            f"fit: {name}, two folds, {epochs} epochs",
            command("fit", "bag-encodings", "fitted", *words),
            ("bags",),
            ("fitted/model.safetensors", "fitted/slides.tsv"),
        )
    for slides in (40, 600, 10_000):
        yield Work(
            f"plan: {slides:,} slides, 8 methods",
            partial(plan, slides),
            outputs=("jobs.json",),
            is_long=slides > 1_000,
            is_quick=slides < 100,
        )
    yield Work(
        "Snakemake: synthesise and tile 16 slides",
        partial(run_study, 8, STORES),
        outputs=("results/synthesise/*/*.svs", "results/tile/adaptive/*/*.h5"),
    )
    yield Work(
        "Snakemake: a study of 16 slides, to its page",
        partial(run_study, 8, ()),
        outputs=(
            *("results/tile/adaptive/*/*.h5", "results/encode/*/*/*.h5"),
            *("results/train/*/model.safetensors", "results/score/*/*.tsv"),
            *("results/evaluate/*/*/*.json", "results/compare/*.tsv", "results/ledger/ledger.tsv"),
        ),
        is_long=True,
    )


# --- what they write ------------------------------------------------------------------------------


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an HDF5 or safetensors file, by name."""
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    import h5py

    arrays: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                arrays.__setitem__(name, item[()]) if isinstance(item, h5py.Dataset) else None
            )
        )
    return arrays


def pixels_of(arrays: Mapping[str, np.ndarray], number: int) -> np.ndarray:
    """Decode one picture of a store."""
    import cv2

    start, end = arrays["jpeg/offsets"][number : number + 2]
    return cv2.imdecode(arrays["jpeg/bytes"][start:end], cv2.IMREAD_COLOR)


def compare_arrays(before: Path, now: Path) -> list[str]:
    """Say how the arrays of two files differ, a line each; none if they do not."""
    old, new = arrays_of(before), arrays_of(now)
    lines = [f"{name} is gone" for name in sorted(old.keys() - new.keys())]
    pictures = {"jpeg/bytes", "jpeg/offsets"}
    if pictures <= old.keys() & new.keys():
        count = len(old["jpeg/offsets"]) - 1
        if count != len(new["jpeg/offsets"]) - 1:
            lines.append(f"{count} patches, now {len(new['jpeg/offsets']) - 1}")
        elif not all(
            np.array_equal(pixels_of(old, number), pixels_of(new, number))
            for number in range(count)
        ):
            lines.append("pixels")
    for name in sorted((old.keys() & new.keys()) - pictures):
        a, b = old[name], new[name]
        if a.shape != b.shape:
            lines.append(f"shape of {name}")
        elif not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            most = np.abs(a.astype(float) - b.astype(float)).max() if a.dtype.kind == "f" else 0
            lines.append(f"{name} by {most:.1g}" if most else name)
    return lines


def compare_tables(before: Path, now: Path) -> list[str]:
    """Name the columns of two tables that differ, of those that both have."""
    old, new = (
        list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))
        for path in (before, now)
    )
    if len(old) != len(new):
        return [f"{len(old)} rows, now {len(new)}"]
    columns = [name for name in (old[0] if old else ()) if name in new[0]]
    return [
        name for name in columns if any(a[name] != b[name] for a, b in zip(old, new, strict=True))
    ]


def compare_values(old: Any, new: Any, place: str = "") -> list[str]:
    """Name the keys of two JSON values that differ, of those that both have."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in old.keys() & new.keys()
            for line in compare_values(old[key], new[key], f"{place}.{key}".lstrip("."))
        ]
    if old == new:
        return []
    is_short = all(isinstance(value, int | str | None) for value in (old, new))
    return [f"{place} {old}, now {new}" if is_short else place]


def compare_files(before: Path, now: Path) -> list[str]:
    """Name what differs in a file."""
    if before.read_bytes() == now.read_bytes():
        return []
    if now.suffix in (".h5", ".safetensors"):
        return compare_arrays(before, now)
    if now.suffix == ".tsv":
        return compare_tables(before, now)
    if now.suffix == ".json":
        return compare_values(json.loads(before.read_text()), json.loads(now.read_text()))
    return ["bytes"]


def compare(work: Work, before: Path, now: Path) -> str:
    """Say of a work's outputs whether they are equal, and how large their stores are."""
    differing: dict[str, int] = {}
    old, new = (
        {path.relative_to(folder) for pattern in work.outputs for path in folder.glob(pattern)}
        for folder in (before, now)
    )
    if not new:
        return ""
    if alone := len(old ^ new):
        differing[f"{alone} files that one alone has"] = 1
    stores = []
    for path in sorted(old & new):
        for line in compare_files(before / path, now / path):
            label = f"{path.suffix[1:]}: {line}"
            differing[label] = differing.get(label, 0) + 1
        if path.suffix == ".h5":
            stores.append(path)
    kilobytes = [
        f"{sum((folder / path).stat().st_size for path in stores) / 1000:,.0f}"
        for folder in (before, now)
    ]
    names = [
        f"{label} (x{times})" if times > 1 else label for label, times in list(differing.items())
    ]
    more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    text = f"not: {'; '.join(names[:SHOWN] + more)}" if names else "equal"
    return text + (f"; {kilobytes[0]} kB, now {kilobytes[1]}" if stores else "")


# --- measuring ------------------------------------------------------------------------------------


def measure(
    work: Work, checkouts: Sequence[Checkout], inputs: Inputs, folder: Path, rounds: int
) -> str:
    """Return the row of a work, all but its name.

    Raises
    ------
    CommandError
        Of this checkout; that the other one cannot do a work stands in its row.
    """
    inputs.make(work.needs)
    usages: tuple[list[Usage], list[Usage]] = [], []
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            place = folder / f"{number}-{side}"
            inputs.link(place, work.outputs)
            try:
                usages[side].append(work.run(checkouts[side], place))
            except CommandError as error:
                if side:
                    raise
                reason = str(error).strip().splitlines()[-1]
                return f" | | the other cannot: {reason} | | |"
    before, now = ([usage.cpu_s for usage in each] for each in usages)
    ratio = spread([b / a for a, b in zip(before, now, strict=True)])
    memory = [f"{statistics.median(usage.memory_mb for usage in each):.0f}" for each in usages]
    outputs = compare(work, *(folder / f"{rounds - 1}-{side}" for side in (0, 1)))
    seconds = [f"{statistics.median(each):.2f}" for each in (before, now)]
    return f"{' | '.join(seconds)} | {ratio} | {', '.join(memory)} | {outputs} |"


def main() -> None:
    """Measure what is asked for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beside", type=Path, help="folder of another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], help="words in the names of works")
    parser.add_argument("--all", action="store_true", help="also what takes minutes")
    parser.add_argument("--quick", action="store_true", help="little: figures mean nothing")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    here = Checkout.here()
    checkouts = Checkout.at(args.beside) if args.beside else here, here
    for each in set(checkouts):
        each.run(["-m", "compileall", "-q", each.root / "her2pipe"], each.root)
    wanted = [
        work
        for work in works()
        if (work.is_quick or not args.quick)
        and (not work.is_long or args.all)
        and (not args.only or any(word in work.name for word in args.only))
        and ("real" not in work.name or REAL.exists())
    ]
    print("| work | processor s before | now | ratio | MB before, now | outputs |")
    print("|---|---:|---:|---|---|---|", flush=True)
    failed = False
    with tempfile.TemporaryDirectory(prefix="her2pipe-versions-") as place:
        inputs = Inputs(checkouts[0], Path(place, "inputs"))
        for number, work in enumerate(wanted):
            rounds = 1 if args.quick or work.is_long else args.rounds
            try:
                row = measure(work, checkouts, inputs, Path(place, str(number)), rounds)
            except CommandError as error:
                print(error, file=sys.stderr)
                row, failed = " | | failed | | |", True
            print(f"| {work.name} | {row}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
