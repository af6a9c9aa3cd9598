"""Step heatmap: slide, what each patch adds to its score, and class of every patch."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from her2pipe.aggregation.base import AGGREGATIONS, Bag, scorer
from her2pipe.bundles.compatibility import OtherScaleError, check_encoding
from her2pipe.config import (
    CompatibilitySettings,
    HeatmapSettings,
    LabelSettings,
    RejectSettings,
)
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder
from her2pipe.plotting.patch_map import PatchMap

if TYPE_CHECKING:
    from her2pipe.store import Encoding
    from her2pipe.store.patches import PatchMetadata

SETTINGS = (HeatmapSettings, LabelSettings, CompatibilitySettings, RejectSettings)
UNUSED_SETTINGS = ("reflex", "reflex_margin")
log = logging.getLogger(__name__)


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("stores", nargs="+", help="patch stores of the slides to draw")
    parser.add_argument("folder", help="folder to write: .png, .geojson and .db per slide")
    parser.add_argument(
        "--encoding", nargs="+", required=True, help="encodings (.h5) of the slides, or folders"
    )
    parser.add_argument(
        "--aggregate",
        default="probabilistic",
        choices=AGGREGATIONS.names(),
        help="aggregation whose view of the patches is drawn",
    )
    parser.add_argument("--model", help="folder written by her2pipe fit; networks need one")


def run(
    args,
    heatmap: HeatmapSettings,
    labels: LabelSettings,
    compatibility: CompatibilitySettings,
    rejection: RejectSettings,
) -> None:
    """Draw every slide that is not excluded."""
    from her2pipe.store import PatchStore, distinct_stores, encodings, read_encoding

    files = {path.stem: path for path in encodings(args.encoding)}
    aggregation = scorer(args.aggregate, labels, folder=args.model)
    with replacing_folder(args.folder) as folder:
        for path in distinct_stores(args.stores):
            with PatchStore(path) as store:
                metadata, overview, coords = store.metadata, store.overview, store.coords
                artefacts = {n: coords[store.rejected((n,))] for n in store.reason_names}
                if store.exclusion_reason:
                    log.info("%s: excluded, no map", metadata.slide)
                    continue
            if metadata.slide not in files:
                raise Her2Error(
                    f"slide {metadata.slide} has no encoding",
                    str(path),
                    "give its encoding to --encoding",
                )
            encoding = read_encoding(files[metadata.slide], aggregation.reads == "features")
            if encoding.metadata.status == "excluded":
                log.info("%s: excluded, no map: %s", metadata.slide, encoding.metadata.reason)
                continue
            try:
                check_encoding(
                    encoding.metadata, aggregation.model, compatibility, files[metadata.slide]
                )
            except OtherScaleError as error:
                log.info("%s: excluded, no map: %s", metadata.slide, error.what)
                continue
            if not np.array_equal(encoding.coords, coords):
                raise Her2Error(
                    f"the encoding of slide {metadata.slide} is of other patches",
                    str(files[metadata.slide]),
                    "give the encoding of this slide's store to --encoding",
                )
            encoding = encoding.without(rejection.reject)
            if not len(encoding):
                log.info("%s: all patches rejected, no map", metadata.slide)
                continue
            bag = _bag(encoding, files[metadata.slide], metadata)
            values, label = aggregation.contributions(bag)
            patches = PatchMap(
                slide=bag.slide,
                width_px0=bag.width_px0,
                height_px0=bag.height_px0,
                coords=bag.coords,
                side_px0=bag.side_px0,
                values=values,
                label=label,
                mpp=metadata.mpp,
                classes=bag.classes,
                probabilities=bag.probabilities,
                ordered=aggregation.endpoint.patches_ordered,
                is_unit_scale=aggregation.contributes_probability
                and aggregation.endpoint.kind == "classes",
            )
            _draw(patches, overview, folder, heatmap, artefacts)


def _bag(encoding: Encoding, path: Path, metadata: PatchMetadata) -> Bag:
    """Return the bag of a slide; an older encoding takes the slide's size from its store."""
    size = {key: getattr(metadata, key) for key in ("patch_size_level0", "width_px0", "height_px0")}
    encoding = replace(encoding, metadata=replace(encoding.metadata, **size))
    bag = Bag.of(encoding)
    bag.validate(path)
    return bag


def _draw(
    patches: PatchMap,
    overview: bytes,
    folder: Path,
    heatmap: HeatmapSettings,
    artefacts: dict[str, np.ndarray],
) -> None:
    """Write the map as a picture and, where it is wanted, for QuPath and TIAViz."""
    import simplejpeg

    from her2pipe.plotting import overlays, qupath, style

    with style.house_style():
        figure = overlays.overlay(simplejpeg.decode_jpeg(overview), patches, heatmap.opacity)
        style.save(figure, folder / patches.slide, formats=("png",))
    if heatmap.viewers:
        text = qupath.geojson(patches, artefacts)
        (folder / f"{patches.slide}.geojson").write_text(text, encoding="utf-8")
        qupath.write_annotations(patches, folder / f"{patches.slide}.db")
