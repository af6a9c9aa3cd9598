"""Step heatmap: slide, probability of HER2+ and class of every patch, side by side."""

from __future__ import annotations

import json
import sys

from her2pipe.config import HeatmapSettings
from her2pipe.files import replacing_folder

SETTINGS = (HeatmapSettings,)


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("stores", nargs="+", help="patch stores of the slides to draw")
    parser.add_argument("folder", help="folder to write: one picture (.png) per slide")
    parser.add_argument(
        "--encoding", nargs="+", required=True, help="encodings (.h5) of the slides, or folders"
    )


def run(args, heatmap: HeatmapSettings) -> None:
    """Draw every slide that is not excluded."""
    import simplejpeg

    from her2pipe import pictures, plots
    from her2pipe.store import PatchStore, encodings, read_encoding

    files = {path.stem: path for path in encodings(args.encoding)}
    with replacing_folder(args.folder) as folder:
        for path in args.stores:
            with PatchStore(path) as store:
                about, overview = store.attributes, store.overview
                slide = str(about["slide"])
                if store.excluded:
                    print(f"heatmap: {slide}: excluded, no map", file=sys.stderr)
                    continue
            encoding = read_encoding(files[slide], features=False)
            classes = json.loads(encoding["attributes"]["classes"])
            p = encoding["probabilities"]
            figure = pictures.overlay(
                overview=simplejpeg.decode_jpeg(overview),
                width_px0=int(about["width_px0"]),
                height_px0=int(about["height_px0"]),
                coords=encoding["coords"],
                side_px0=int(about["patch_size_level0"]),
                probability=p[:, classes.index("HER2+")],
                classes=p.argmax(1),
                class_names=classes,
                opacity=heatmap.opacity,
                title=slide,
                mpp=about["mpp"] if about.get("mpp", 0) > 0 else None,
            )
            plots.save(figure, folder / slide, formats=("png",))
