"""Step explain: draw where in its patches a network sees a slide's class (Grad-CAM)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe.config import ExplainSettings
from her2pipe.errors import Her2Error
from her2pipe.files import replacing, replacing_folder, write_table

SETTINGS = (ExplainSettings,)
TABLE = ("slide", "class", "x", "y", "probability", "evidence")
JPEG_QUALITY = 90


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("stores", nargs="+", help="patch stores of the slides to explain")
    parser.add_argument("folder", help="folder to write: .jpg and .png per slide, and patches.tsv")
    parser.add_argument(
        "--encoding", nargs="+", required=True, help="encodings (.h5) of the slides, or folders"
    )
    parser.add_argument("--model", required=True, help="folder written by her2pipe train")
    parser.add_argument(
        "--layer", default="", help="module whose maps are looked at; default: chosen by --map-min"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def run(args, explain: ExplainSettings) -> None:
    """Explain every slide that is not excluded."""
    import torch

    from her2pipe.models import gpu, gradcam, inference, weights
    from her2pipe.store import PatchStore, encodings

    torch.set_num_threads(args.threads)
    device = gpu.pick_device(explain.device)
    model, description = weights.load(args.model)
    classes = description.classes
    if not classes or (explain.target and explain.target not in classes):
        raise Her2Error(
            f"the model has no class {explain.target}".rstrip(),
            f"option --target, model {args.model}",
            f"use one of: {', '.join(classes)}" if classes else "explain a model that has classes",
        )
    model = inference.place(model.requires_grad_(False), device)
    layer = args.layer or gradcam.pick_layer(model, description.input_px, explain.map_min)
    print(f"explain: {description.architecture}: evidence of {layer}", file=sys.stderr)
    files = {path.stem: path for path in encodings(args.encoding)}
    rows: list[dict[str, Any]] = []
    with replacing_folder(args.folder) as folder:
        for path in args.stores:
            with PatchStore(path) as store:
                slide = str(store.attributes["slide"])
                if store.excluded:
                    print(f"explain: {slide}: excluded", file=sys.stderr)
                    continue
                p = _probabilities(store, files.get(slide))
                look = _Look(model, description, layer, device, args.threads, explain)
                rows += one_slide(store, p, look, folder)
        write_table(folder / "patches.tsv", TABLE, rows)


class _Look:
    """A network, the layer of it that is looked at, and how patches come to it."""

    def __init__(self, model, description, layer: str, device, threads: int, explain):
        from her2pipe.stain.profile import Profile

        self.model, self.description, self.layer, self.device = model, description, layer, device
        self.threads, self.explain = threads, explain
        self.target = Profile.from_dict(description.stain)

    def maps(self, store, chosen: np.ndarray, wanted: int) -> np.ndarray:
        """Map the evidence in some patches of a slide: (N, s, s) float32."""
        import torch

        from her2pipe.models import gradcam, inference
        from her2pipe.training import dataloader

        description, found = self.description, []
        colours = dataloader.Colours([dataloader.profile(store)], self.target, self.device)
        items = np.stack([np.zeros(len(chosen), int), chosen], axis=1)
        for images, slides in dataloader.batches(
            [store],
            items,
            description.input_px,
            self.explain.batch_patches,
            self.device,
            self.threads,
        ):
            images = inference.standardise(
                colours(images, slides), description.mean, description.std
            )
            maps = gradcam.evidence(self.model, inference.arrange(images), wanted, self.layer)
            found.append(maps)
        return torch.cat(found).cpu().numpy()  # the one place where the host waits


def _probabilities(store, path: Path | None) -> np.ndarray:
    """Read the probabilities of a slide's patches, (N, C) float32."""
    from her2pipe.store import read_encoding

    slide = store.attributes["slide"]
    fix = "give the encoding of this slide's store to --encoding"
    if path is None:
        raise Her2Error(f"slide {slide} has no encoding", str(store.path), fix)
    encoding = read_encoding(path, features=False)
    if not np.array_equal(encoding["coords"], store.coords):
        raise Her2Error(f"the encoding of slide {slide} is of other patches", str(path), fix)
    return encoding["probabilities"]


def one_slide(store, p: np.ndarray, look: _Look, folder: Path) -> list[dict[str, Any]]:
    """Draw one slide's evidence; return a row for each patch drawn."""
    from her2pipe.plotting import gradcam as evidence

    explain, classes = look.explain, look.description.classes
    wanted = classes.index(explain.target) if explain.target else int(p.mean(0).argmax())
    best = np.argsort(-p[:, wanted], kind="stable")[: explain.tiles]
    chosen = np.arange(len(store)) if explain.whole else best
    maps = look.maps(store, chosen, wanted)
    share = maps / evidence.strongest(maps)
    of = {patch: number for number, patch in enumerate(chosen.tolist())}
    slide, name = str(store.attributes["slide"]), classes[wanted]
    told = f"evidence for {name} (Grad-CAM; 1: the slide's 99th percentile)"
    _patches(store, best, [share[of[i]] for i in best.tolist()], p[best, wanted], name, told,
             folder / f"{slide}.jpg", explain.opacity)  # fmt: skip
    if explain.whole:
        _whole(store, share, f"evidence for {name}", folder / slide, explain.opacity)
    print(f"explain: {slide}: {len(chosen)} patches, evidence for {name}", file=sys.stderr)
    return [
        {"slide": slide, "class": name, "x": int(store.coords[i, 0]), "y": int(store.coords[i, 1]),
         "probability": f"{p[i, wanted]:.6f}", "evidence": f"{maps[of[i]].mean():.6g}"}
        for i in best.tolist()
    ]  # fmt: skip


def _patches(store, best, maps, p, name: str, label: str, path: Path, opacity: float) -> None:
    """Draw the most telling patches of a slide, and their evidence, as a JPEG."""
    from PIL import Image

    from her2pipe.plotting import gradcam as evidence

    images = [store.pixels(int(i)) for i in best]
    titles = [f"p({name}) = {value:.2f}" for value in p]
    title = str(store.attributes["slide"])
    figure = evidence.patches(images, maps, titles, title, label, opacity)
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    with replacing(path) as part:
        picture.save(part, "JPEG", quality=JPEG_QUALITY, dpi=(200, 200))


def _whole(store, maps: np.ndarray, label: str, stem: Path, opacity: float) -> None:
    """Draw a slide and its evidence side by side."""
    import simplejpeg

    from her2pipe.plotting import gradcam as evidence
    from her2pipe.plotting import overlays, style

    about = store.attributes
    coords, side = evidence.map_tiles(store.coords, int(about["patch_size_level0"]), maps)
    figure = overlays.overlay(
        overview=simplejpeg.decode_jpeg(store.overview),
        width_px0=about["width_px0"],
        height_px0=about["height_px0"],
        coords=coords,
        side_px0=side,
        probability=maps.ravel(),
        opacity=opacity,
        title=stem.name,
        mpp=about["mpp"] if about.get("mpp", 0) > 0 else None,
        label=label,
    )
    style.save(figure, stem, formats=("png",))
