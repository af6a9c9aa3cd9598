"""Step heatmap: slide, what each patch adds to its score, and class of every patch."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from her2pipe.aggregation.base import AGGREGATIONS, Bag, scorer
from her2pipe.config import HeatmapSettings, LabelSettings
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder

SETTINGS = (HeatmapSettings, LabelSettings)
UNUSED_SETTINGS = ("reflex", "reflex_margin")
OUTLIERS = 1.0  # percent of the patches at either end that do not stretch a map's colours


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("stores", nargs="+", help="patch stores of the slides to draw")
    parser.add_argument("folder", help="folder to write: .png, .geojson and .db per slide")
    parser.add_argument(
        "--encoding", nargs="+", required=True, help="encodings (.h5) of the slides, or folders"
    )
    parser.add_argument(
        "--aggregate", default="probabilistic", choices=AGGREGATIONS.names(),
        help="aggregation whose view of the patches is drawn",
    )  # fmt: skip
    parser.add_argument("--model", help="folder written by her2pipe fit; networks need one")


def run(args, heatmap: HeatmapSettings, labels: LabelSettings) -> None:
    """Draw every slide that is not excluded."""
    from her2pipe.store import PatchStore, encodings

    files = {path.stem: path for path in encodings(args.encoding)}
    aggregation = scorer(args.aggregate, labels, folder=args.model)
    with replacing_folder(args.folder) as folder:
        for path in args.stores:
            with PatchStore(path) as store:
                about, overview = store.attributes, store.overview
                slide = str(about["slide"])
                if store.excluded:
                    print(f"heatmap: {slide}: excluded, no map", file=sys.stderr)
                    continue
            if slide not in files:
                raise Her2Error(
                    f"slide {slide} has no encoding", str(path), "give its encoding to --encoding"
                )
            bag = _bag(files[slide], about, aggregation.reads == "features")
            ordered = aggregation.endpoint.patches_ordered
            value, label = aggregation.contributions(bag)
            _picture(folder, bag, value, label, about, overview, heatmap.opacity, ordered)
            if heatmap.viewers:
                _viewers(folder, bag, value, label, ordered)


def _bag(path: Path, about: dict, with_features: bool) -> Bag:
    """Read the encoding of a slide; an older one takes the slide's size from its store."""
    from her2pipe.store import read_encoding

    encoding = read_encoding(path, features=with_features)
    size = {key: about[key] for key in ("patch_size_level0", "width_px0", "height_px0")}
    encoding = replace(encoding, metadata=replace(encoding.metadata, **size))
    bag = Bag.of(encoding)
    bag.validate(path)
    return bag


def _picture(
    folder: Path, bag, value, label: str, about: dict, overview: bytes, opacity, ordered: bool
) -> None:
    """Draw the slide, its map and its classes side by side."""
    import simplejpeg

    from her2pipe.plotting import overlays, style

    figure = overlays.overlay(
        overview=simplejpeg.decode_jpeg(overview),
        width_px0=bag.width_px0,
        height_px0=bag.height_px0,
        coords=bag.coords,
        side_px0=bag.side_px0,
        probability=value,
        classes=bag.probabilities.argmax(1) if bag.classes else (),
        class_names=bag.classes,
        opacity=opacity,
        title=bag.slide,
        mpp=about["mpp"] if about.get("mpp", 0) > 0 else None,
        label=label,
        limits=_limits(value, label),
        ordered=ordered,
    )
    style.save(figure, folder / bag.slide, formats=("png",))


def _limits(value: np.ndarray, label: str) -> tuple[float, float]:
    """Return what the ends of the colours stand for: 0 and 1, but for what is no probability."""
    if label.startswith(("p(", "expected ")) or not len(value):
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(value, [OUTLIERS, 100 - OUTLIERS]))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _viewers(folder: Path, bag, value: np.ndarray, label: str, ordered: bool) -> None:
    """Write the map for QuPath and for TIAViz."""
    from her2pipe.plotting import qupath, style

    hues = style.class_colours(len(bag.classes), ordered)
    found = qupath.Map(
        slide=bag.slide,
        coords=bag.coords,
        side_px0=bag.side_px0,
        classes=bag.classes,
        colours=[tuple(bytes.fromhex(hue[1:])) for hue in hues],
        probabilities=bag.probabilities,
        contribution=value,
        meaning=label,
    )
    (folder / f"{bag.slide}.geojson").write_text(qupath.geojson(found), encoding="utf-8")
    qupath.write_annotations(found, folder / f"{bag.slide}.db")
