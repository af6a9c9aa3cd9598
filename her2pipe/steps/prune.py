"""Verb prune: keep the first stages of a network, and count what that saves.

Parameters are counted three ways: all, those trained, and all with the running mean and variance
of batch norms, as Keras counts. Without --stages every cut is listed. An encoder is cut by `stages`
in its settings; of starting weights it then takes the part it has.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder
from her2pipe.models.description import ModelDescription

SETTINGS = ()
TABLE = ("stages", "stage", "output", "all", "trainable", "with_statistics", "less")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("network", help="timm model name, or the folder of a trained model")
    parser.add_argument("--stages", type=int, help="stages to keep, from 1 [default: each number]")
    parser.add_argument("--classes", type=int, default=4, help="outputs of the head [default 4]")
    parser.add_argument("--input-px", type=int, help="side of the input [px; default: its own]")
    parser.add_argument("--frozen", nargs="*", default=[], help="modules that are not trained")
    parser.add_argument("--to", help="folder to write: the first stages, with the model's weights")


def run(args: argparse.Namespace) -> None:
    """Print the table; write the network that is left, if a folder is named."""
    from her2pipe.models import costs, factory, truncated

    source = Path(args.network)
    if source.is_dir():
        model = ModelDescription.read(source)
        classes = model.head_outputs
    else:
        model = ModelDescription(architecture=args.network, input_px=args.input_px or 0)
        classes = args.classes
    if args.to and not (source.is_dir() and args.stages):
        raise Her2Error(
            "--to writes the first stages of a trained model",
            "command line",
            "name a model's folder, and the stages to keep",
        )
    px = model.input_px or None
    if args.stages:
        cuts = [args.stages]
    elif model.stages:
        cuts = list(range(1, model.stages))
    else:
        names = truncated.stage_names(factory.create(model.architecture, 0, px))
        cuts = list(range(1, len(names) + 1))
    sizes = costs.measure_cuts(model.architecture, classes, px, [model.stages, *cuts], args.frozen)
    print("\t".join(TABLE))
    for size in sizes:
        saved = 1 - size.with_statistics / sizes[0].with_statistics
        counts = size.parameters.total, size.parameters.trainable, size.with_statistics
        row = (size.stages or "all", size.stage, size.output, *counts, f"{100 * saved:.1f} %")
        print("\t".join(map(str, row)))
    if args.to:
        write(model, args.stages, source, args.to)


def write(model: ModelDescription, stages: int, source: Path, folder: str) -> None:
    """Write the first stages of a trained model: a frozen encoder, and weights to start from."""
    from her2pipe.models import weights

    name, px = model.architecture, model.input_px
    network = weights.start(name, 0, px, str(source), stages)
    truncated = weights.describe(network, name, px, stages=stages)
    description = model.having(
        **truncated.model_dump(exclude_unset=True),
        classes=[],
        outputs=0,
        start={"weights": source.name, "digest": model.digest},
        targets=None,
        class_weights=None,
    )
    with replacing_folder(folder) as out:
        weights.save(network, description, out)
