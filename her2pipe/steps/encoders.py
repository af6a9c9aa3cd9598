"""Verb encoders: published encoders by name; fetch their weights, and check them."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from her2pipe.errors import Her2Error, raise_all
from her2pipe.models.presets import hub
from her2pipe.models.presets.preset import Preset
from her2pipe.registry import PRESETS

log = logging.getLogger(__name__)
SETTINGS = ()
COLUMNS = (
    "name",
    "parameters",
    "features",
    "view",
    "access",
    "weights",
    "licence",
)
SAMPLE_SEED = 0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "action",
        nargs="?",
        default="list",
        choices=("list", "show", "fetch", "check"),
        help="list: all of them; show: all that is known of one, and what is unverified; fetch:"
        " fill the cache of the hub's client, on a machine with a network; check: load the weights"
        " and run one image",
    )
    parser.add_argument("names", nargs="*", help="encoders; of list: none for all")
    parser.add_argument(
        "--weights", default="", help="check: a file or folder in place of the hub's"
    )


def run(args: Any) -> None:
    """List, show, fetch or check encoders.

    Raises
    ------
    Her2Error
        For an unknown name, and for weights that cannot be had or are another network's.
    """
    presets = [PRESETS[name] for name in args.names]
    if not presets and args.action != "list":
        raise Her2Error(
            f"no encoder to {args.action}", "command line", "name one of her2pipe encoders"
        )
    actions = {"show": _show, "fetch": _fetch, "check": lambda p: _check(p, args.weights)}
    if args.action == "list":
        kinds = ("source", "imagenet", "none")
        ordered = sorted(PRESETS, key=lambda preset: kinds.index(preset.weights))
        print("\n".join(_table(presets or ordered)))
        return
    problems: list[Her2Error] = []
    for preset in presets:
        try:
            print("\n".join(actions[args.action](preset)), flush=True)
        except Her2Error as error:  # the others may do
            problems.append(error)
    raise_all(problems)


def _table(presets: list[Preset]) -> Iterator[str]:
    """Write one line per encoder; an asterisk after those of which something is unverified."""
    rows = [COLUMNS]
    for preset in presets:
        state = hub.availability(preset)
        rows.append(
            (
                preset.name + "*" * bool(preset.unverified),
                f"{preset.parameters / 1e6:.1f} M",
                str(preset.width),
                preset.view or "any",
                preset.access,
                {"none": preset.weights, "present": "here"}.get(state, state),
                preset.licence,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{n}}" for cell, n in zip(row, widths, strict=True)).rstrip()
    yield ""
    yield "* something is unverified: her2pipe encoders show NAME"
    yield "access: request = ask its owners on the hub. weights: here = in the cache of its client;"
    yield "fetchable = not here, the client may ask; absent = offline, or there is no token;"
    yield "imagenet = timm's of that tag; none = there are none"


def _show(preset: Preset) -> Iterator[str]:
    """Write all that is known of an encoder, and what its name stands for in a study."""
    yield f"{preset.name}: {preset.title}"
    stated = {"view": preset.view or "any", "stored_px": preset.stored_px}
    known = preset.model_dump(exclude={"name", "title", "unverified"}, exclude_defaults=True)
    for key, value in (known | stated).items():
        yield f"  {key}: {value}"
    for note in preset.unverified:
        yield f"  unverified: {note}"


def _fetch(preset: Preset) -> Iterator[str]:
    """Fetch weights, timm's too, and write where they are."""
    if preset.weights == "imagenet":
        from her2pipe.models import factory, weights

        network = factory.create(preset.architecture, 1000, pretrained=True)
        yield f"{preset.name}: {weights.published_name(network)}, in the cache of timm"
    else:
        yield f"{preset.name}: {hub.fetch(preset)}"


def _check(preset: Preset, file: str) -> Iterator[str]:
    """Load weights, run one image of noise, and write what there is."""
    import torch

    from her2pipe.config import TrainSettings
    from her2pipe.files import file_digest
    from her2pipe.models import costs, inference, weights

    settings = TrainSettings(preset=preset.name)
    path = file or (str(hub.fetch(preset)) if preset.weights == "source" else preset.weights)
    network = weights.start(
        settings.architecture,
        0,
        settings.input_px,
        path,
        settings.stages,
        preset.name,
        pooling=settings.pooling,
        mean=settings.mean,
        std=settings.std,
        **settings.model_args,
    ).eval()
    side = settings.input_px
    noise = torch.randint(
        0, 256, (1, 3, side, side), generator=torch.Generator().manual_seed(SAMPLE_SEED)
    )
    with torch.inference_mode():
        images = inference.standardise(noise, **inference.normalisation(network))
        features = inference.forward(network, images, settings.features)[1][0]
    size = costs.count_parameters(network).total
    yield f"{preset.name}: {settings.architecture}, {size:,} parameters"
    if path not in ("imagenet", "none"):
        digest = file_digest(weights.weights_file(Path(path), preset.name))
        published = preset.sha256[:16]
        state = "" if not published else ", the published file" * (digest == published)
        yield f"  weights: {path}, sha256 {digest}...{state or ', not known as published'}"
    yield f"  input: {side} x {side} px, mean {settings.mean}, std {settings.std}"
    yield f"  features: {len(features)} by {settings.pooling}"
    yield f"  of one image of noise: mean {features.mean():.6f}, sd {features.std():.6f}"
    if len(features) != preset.width or not bool(torch.isfinite(features).all()):
        raise Her2Error(
            f"{preset.name} gives {len(features)} features, some of which may be no numbers; it"
            f" should give {preset.width}",
            path,
            "fetch the weights again, or install the timm that requirements.txt names",
        )
