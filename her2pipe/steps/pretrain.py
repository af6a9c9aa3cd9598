"""Step pretrain: train a network on labelled images of other things, for encoders to start from."""

from __future__ import annotations

import argparse
import json
import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from her2pipe.cohorts import sheet
from her2pipe.config import PretrainSettings, SplitSettings, flags
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder, write_table

if TYPE_CHECKING:
    import torch

    from her2pipe.endpoints.base import Endpoint
    from her2pipe.models.description import ModelDescription
    from her2pipe.training.pretraining_images import ImageSource

log = logging.getLogger(__name__)
SETTINGS = (SplitSettings, PretrainSettings)


def sheet_columns(endpoint: Endpoint | None, settings: PretrainSettings) -> tuple[str, ...]:
    """Return the columns of a cohort of images that are read: for sides, classes and messages."""
    return ("path", "patient", "split", settings.column)


SHEET_COLUMNS = sheet_columns


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", help="folder to write: model, description, history")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--stores", action="append", default=[], help="pack of a cohort's images; may be repeated"
    )
    parser.add_argument("--sheet", help="sheet of that cohort")


def run(args: Any, split: SplitSettings, pretrain: PretrainSettings) -> None:
    """Read the images, train all epochs, write the model.

    A run that was killed resumes after its last epoch when it is started again.
    """
    import torch

    from her2pipe.models import gpu
    from her2pipe.store import PatchStore
    from her2pipe.training.pretraining_images import InMemory, Packed

    torch.set_num_threads(args.threads)
    torch.manual_seed(pretrain.pretrain_seed)
    device = gpu.pick_device(pretrain.device)
    with ExitStack() as stack:
        if not args.stores:
            _train(args, pretrain, InMemory(pretrain, device), device)
            return
        if not args.sheet:
            what = "packs of images are given, and no sheet that names their classes"
            raise Her2Error(what, "option --sheet", "give the sheet they were packed from")
        packs = [stack.enter_context(PatchStore(path)) for path in args.stores]
        columns = sheet_columns(None, pretrain)
        rows = sheet.load(args.sheet, check_files=False, columns=columns)
        images = Packed(packs, rows, args.sheet, split, pretrain, device, args.threads)
        _train(args, pretrain, images, device)


def _train(
    args: Any, pretrain: PretrainSettings, images: ImageSource, device: torch.device
) -> None:
    """Train on the images, and write the model."""
    import torch

    from her2pipe.models import costs, factory, inference, weights
    from her2pipe.plotting import charts, style
    from her2pipe.training.checkpoint import Checkpoint
    from her2pipe.training.loop import Plan, digest_of, train_network
    from her2pipe.training.objectives import Classification
    from her2pipe.training.pretraining_images import ImageBatches
    from her2pipe.training.schedule import Schedule

    classes = images.classes
    model = factory.create(pretrain.architecture, len(classes), pretrain.input_px)
    description = _describe(model, images, pretrain)
    log.info(
        "%s images of %d classes, %s held out; %s parameters are trained",
        f"{images.sizes['train']:,}",
        len(classes),
        f"{images.sizes['validation']:,}",
        f"{costs.count_parameters(model).total:,}",
    )
    if images.excluded:
        reason = next(iter(images.excluded.values()))
        log.info("%d images are excluded, the first because of: %s", len(images.excluded), reason)
    checkpoint = Checkpoint.beside(
        args.folder,
        digest_of(
            flags.as_json(pretrain),
            torch.__version__,
            images.digest,
            *(tensor.numpy() for tensor in model.state_dict().values()),
        ),
    )
    plan = Plan(
        learning_rate=pretrain.learning_rate,
        epochs=pretrain.epochs,
        accumulate=pretrain.accumulate,
        bfloat16=inference.use_bfloat16(pretrain.precision, device),
        compile=pretrain.compile,
        save_s=pretrain.save_s,
        keeps_end=False,  # its outputs are written next
        schedule=Schedule.of(pretrain),
    )
    batches = ImageBatches(images, pretrain, description.mean, description.std)
    network = inference.place(model, device)
    history = train_network(network, batches, Classification(classes), plan, checkpoint).history
    checkpoint.check()
    with replacing_folder(args.folder) as folder:
        weights.save(model, description, folder)
        write_table(folder / "history.tsv", list(history[0]), history)
        style.save(charts.learning_curves(history), folder / "history")
    checkpoint.remove()


def _describe(model: Any, images: ImageSource, pretrain: PretrainSettings) -> ModelDescription:
    """Return the model's description: what it needs to be used, and to be trained again."""
    from her2pipe.models import weights

    source: dict[str, Any] = {"source": images.name, "digest": images.digest, **images.sizes}
    if images.excluded:  # no cohort of the ledger: this is where they are accounted for
        source["exclusion_reasons"] = images.excluded
    return weights.describe(
        model,
        pretrain.architecture,
        pretrain.input_px,
        classes=images.classes,
        images=source,
        settings=json.loads(flags.as_json(pretrain)),
    )
