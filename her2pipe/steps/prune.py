"""Verb prune: keep the first stages of a network, and count what that saves.

Parameters are counted three ways: all, those that learn, and all with the running mean and variance
of batch norms, as Keras counts. Without --stages every cut is listed. An encoder is cut by `stages`
in its settings; of starting weights it then takes the part it has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from her2pipe.errors import Her2Error
from her2pipe.files import read_json, replacing_folder

SETTINGS = ()
COLUMNS = ("stages", "stage", "output", "all", "trainable", "with_statistics", "less")


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("network", help="timm model name, or the folder of a trained model")
    parser.add_argument("--stages", type=int, help="stages to keep, from 1 [default: each number]")
    parser.add_argument("--classes", type=int, default=4, help="outputs of the head [default 4]")
    parser.add_argument("--input-px", type=int, help="side of the input [px; default: its own]")
    parser.add_argument("--frozen", nargs="*", default=[], help="modules that do not learn")
    parser.add_argument("--to", help="folder to write: the first stages, with the model's weights")


def run(args) -> None:
    """Print the table; write the network that is left, if a folder is named."""
    about: dict[str, Any] = {"architecture": args.network, "input_px": args.input_px}
    source = Path(args.network)
    if source.is_dir():
        about = read_json(source / "model.json", "a trained model")
        args.classes = about.get("outputs", len(about["classes"]))
    if args.to and not (source.is_dir() and args.stages):
        raise Her2Error(
            "--to writes the first stages of a trained model",
            "command line",
            "name a model's folder, and the stages to keep",
        )
    rows = table(about, args.classes, args.stages, args.frozen)
    print("\n".join("\t".join(str(row[name]) for name in COLUMNS) for row in rows))
    if args.to:
        write(about, args.stages, source, args.to)


def table(
    about: dict[str, Any], classes: int, stages: int | None, frozen: list[str]
) -> list[dict[str, Any]]:
    """Count parameters of a network, whole and cut; the first row is the heads of the columns."""
    from her2pipe.models import factory, lightweight

    name, px, had = about["architecture"], about["input_px"], about.get("stages", 0)
    whole = factory.create(name, 0, px)
    last = had or len(lightweight.stages_of(whole))
    wanted = [stages] if stages else list(range(1, last + (not had)))
    rows: list[dict[str, Any]] = [dict(zip(COLUMNS, COLUMNS, strict=True))]
    for kept in (had, *wanted):
        model = factory.create(name, classes, px, kept)
        factory.freeze(model, [part for part in frozen if _has(model, part)] if kept else frozen)
        size, full = factory.count(model), lightweight.count_with_statistics(model)
        first = rows[1]["with_statistics"] if rows[1:] else full
        rows.append(
            {
                "stages": kept or "all",
                "stage": model.feature_info[-1]["module"].removeprefix("body.") if kept else "",
                "output": _output(model, px or lightweight.input_of(whole)),
                "all": size["total"],
                "trainable": size["trainable"],
                "with_statistics": full,
                "less": f"{100 * (1 - full / first):.1f} %",
            }
        )
    return rows


def _has(model, part: str) -> bool:
    names = dict(model.named_modules())
    return part in names or f"body.{part}" in names


def _output(model, px: int) -> str:
    """Tell the size of what comes before the pooling: height x width x maps, or tokens x width."""
    import torch

    model.eval()
    with torch.no_grad():
        shape = list(model.forward_features(torch.zeros(1, 3, px, px)).shape[1:])
    if len(shape) == 3 and getattr(model, "output_fmt", "NCHW") == "NCHW":
        shape = [*shape[1:], shape[0]]
    return "x".join(map(str, shape))


def write(about: dict[str, Any], stages: int, source: Path, folder: str) -> None:
    """Write the first stages of a trained model: a frozen encoder, and weights to start from."""
    from her2pipe.models import factory

    name, px = about["architecture"], about["input_px"]
    model = factory.start(name, 0, px, str(source), stages)
    found = {k: v for k, v in about.items() if k not in ("targets", "class_weights")}
    found |= factory.describe(model, name, px, "pooled", stages)
    found |= {
        "classes": [],
        "outputs": 0,
        "start": {"weights": source.name, "digest": about["digest"]},
    }
    with replacing_folder(folder) as out:
        factory.save(model, found, out)
