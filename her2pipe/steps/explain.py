"""Step explain: draw where in its patches a network sees a slide's class (Grad-CAM)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from her2pipe.bundles.compatibility import OtherScaleError, Patches, check, remark_on_unknown
from her2pipe.config import CompatibilitySettings, ExplainSettings
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder, write_table
from her2pipe.plotting.patch_map import PatchMap

if TYPE_CHECKING:
    import torch

    from her2pipe.models.weights import ModelDescription, Network
    from her2pipe.store.patches import PatchStore

SETTINGS = (ExplainSettings, CompatibilitySettings)
TABLE = ("slide", "class", "x", "y", "probability", "evidence")
log = logging.getLogger(__name__)


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


def run(args, explain: ExplainSettings, compatibility: CompatibilitySettings) -> None:
    """Explain every slide that is not excluded."""
    import torch

    from her2pipe.models import gpu, gradcam, inference, weights
    from her2pipe.store import PatchStore, distinct_stores, encodings

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
    log.info("%s: evidence of %s", description.architecture, layer)
    mapper = _EvidenceMapper(model, description, layer, device, args.threads, explain)
    files = {path.stem: path for path in encodings(args.encoding)}
    model_name = f"encoder {args.model}"
    remark_on_unknown(description.patches, model_name)
    rows: list[dict[str, Any]] = []
    with replacing_folder(args.folder) as folder:
        for path in distinct_stores(args.stores):
            with PatchStore(path) as store:
                slide = store.metadata.slide
                if store.exclusion_reason:
                    log.info("%s: excluded", slide)
                    continue
                patches = Patches.of_store(store.metadata, store.stain)
                try:
                    check(description.patches, patches, compatibility, path, model_name)
                except OtherScaleError as error:
                    log.warning("%s: excluded: %s", slide, error.what)
                    continue
                p = _probabilities(store, files.get(slide), description.digest)
                rows += explain_slide(store, p, mapper, folder)
        write_table(folder / "patches.tsv", TABLE, rows)


class _EvidenceMapper:
    """Maps of the evidence that a layer of a network finds in patches."""

    def __init__(
        self,
        model: Network,
        description: ModelDescription,
        layer: str,
        device: torch.device,
        threads: int,
        settings: ExplainSettings,
    ):
        from her2pipe.stain.profile import Profile

        self.model, self.description, self.layer, self.device = model, description, layer, device
        self.threads, self.settings = threads, settings
        self.stain_target = Profile.from_dict(description.stain)

    def maps(self, store: PatchStore, patches: np.ndarray, class_number: int) -> np.ndarray:
        """Map the evidence for a class in some patches of a slide: (N, s, s) float32."""
        import torch

        from her2pipe.models import gradcam, inference
        from her2pipe.training import dataloader

        maps = [
            gradcam.evidence(self.model, inference.arrange(images), class_number, self.layer)
            for images in dataloader.network_inputs(
                store,
                patches,
                self.description,
                self.stain_target,
                self.settings.batch_patches,
                self.device,
                self.threads,
            )
        ]
        return torch.cat(maps).cpu().numpy()  # the one place where the host waits


def _probabilities(store: PatchStore, path: Path | None, model_digest: str) -> np.ndarray:
    """Read the probabilities of a slide's patches by the model, (N, C) float32."""
    from her2pipe.store import read_encoding

    slide = store.metadata.slide
    fix = "give the encoding of this slide's store to --encoding"
    if path is None:
        raise Her2Error(f"slide {slide} has no encoding", str(store.path), fix)
    encoding = read_encoding(path, features=False)
    if not np.array_equal(encoding.coords, store.coords):
        raise Her2Error(f"the encoding of slide {slide} is of other patches", str(path), fix)
    if encoding.metadata.model_digest not in ("", model_digest):
        fix = "encode the slide with the model that is to be explained"
        raise Her2Error(f"the encoding of slide {slide} is of another model", str(path), fix)
    return encoding.probabilities


def explain_slide(
    store: PatchStore, p: np.ndarray, mapper: _EvidenceMapper, folder: Path
) -> list[dict[str, Any]]:
    """Draw one slide's evidence; return a row for each patch drawn."""
    import simplejpeg

    from her2pipe.plotting import gradcam, overlays, style

    settings, classes = mapper.settings, mapper.description.classes
    number = classes.index(settings.target) if settings.target else int(p.mean(0).argmax())
    drawn = np.argsort(-p[:, number], kind="stable")[: settings.tiles]
    mapped = np.arange(len(store)) if settings.whole else drawn
    maps = mapper.maps(store, mapped, number)
    shares = maps / gradcam.strongest(maps)
    place = {patch: i for i, patch in enumerate(mapped.tolist())}
    slide, name = store.metadata.slide, classes[number]
    figure = gradcam.patches(
        [store.pixels(int(i)) for i in drawn],
        [shares[place[i]] for i in drawn.tolist()],
        [f"p({name}) = {value:.2f}" for value in p[drawn, number]],
        "",
        f"evidence for {name} (Grad-CAM; 1: the slide's 99th percentile)",
        settings.opacity,
    )
    style.save(figure, folder / slide, formats=("jpg",))
    if settings.whole:
        overview = simplejpeg.decode_jpeg(store.overview)
        patches = _evidence_map(store, shares, f"evidence for {name}")
        figure = overlays.overlay(overview, patches, settings.opacity)
        style.save(figure, folder / slide, formats=("png",))
    log.info("%s: %d patches, evidence for %s", slide, len(mapped), name)
    return [
        {
            "slide": slide,
            "class": name,
            "x": int(store.coords[i, 0]),
            "y": int(store.coords[i, 1]),
            "probability": f"{p[i, number]:.6f}",
            "evidence": f"{maps[place[i]].mean():.6g}",
        }
        for i in drawn.tolist()
    ]


def _evidence_map(store: PatchStore, shares: np.ndarray, label: str) -> PatchMap:
    """Return the evidence in a whole slide, each point of a patch's map a patch of its own."""
    from her2pipe.plotting import gradcam

    metadata = store.metadata
    coords, side = gradcam.map_tiles(store.coords, metadata.patch_size_level0, shares)
    return PatchMap(
        slide=metadata.slide,
        width_px0=metadata.width_px0,
        height_px0=metadata.height_px0,
        coords=coords,
        side_px0=side,
        values=shares.ravel(),
        label=label,
        mpp=metadata.mpp,
    )
