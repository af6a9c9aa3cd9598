"""Step pretrain: train a network on labelled images of other things, for encoders to start from."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from her2pipe import settings as flags
from her2pipe.config import PretrainSettings
from her2pipe.files import replacing_folder, write_table

SETTINGS = (PretrainSettings,)
SYNTHETIC = "synthetic"

Images = dict[str, tuple[np.ndarray, np.ndarray]]


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", help="folder to write: model, description, history")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def run(args, pretrain: PretrainSettings) -> None:
    """Read the images, train all epochs, write the model.

    A run that was killed goes on after its last epoch when it is started again.
    """
    import torch

    from her2pipe import learn, networks, plots

    torch.set_num_threads(args.threads)
    torch.manual_seed(pretrain.pretrain_seed)
    device = networks.pick_device(pretrain.device)
    images, classes = _images(pretrain)
    model = networks.create(pretrain.architecture, len(classes), pretrain.input_px)
    about = _about(model, images, classes, pretrain)
    _tell(f"{about['images']['train']:,} images of {len(classes)} classes,"
          f" {about['images']['validation']:,} held out;"
          f" {about['parameters']['total']:,} parameters learn")  # fmt: skip
    checkpoint = learn.Checkpoint.beside(
        args.folder,
        learn.digest_of(
            flags.as_json(pretrain),
            torch.__version__,
            about["images"]["digest"],
            *(weights.numpy() for weights in model.state_dict().values()),
        ),
    )
    plan = learn.Plan(
        learning_rate=pretrain.learning_rate,
        epochs=pretrain.epochs,
        accumulate=pretrain.accumulate,
        bfloat16=networks.bfloat16(pretrain.precision, device),
        compile=pretrain.compile,
        schedule=learn.Schedule.of(pretrain),
    )
    batches = _Batches(images, pretrain, about, device)
    objective = learn.Classes(classes)
    history = learn.learn(networks.place(model, device), batches, objective, plan, checkpoint)
    with replacing_folder(args.folder) as folder:
        networks.save(model, about, folder)
        write_table(folder / "history.tsv", list(history[0]), history)
        plots.save(plots.history(history), folder / "history")
    checkpoint.remove()


def _tell(text: str) -> None:
    print(f"pretrain: {text}", file=sys.stderr, flush=True)


def _images(pretrain: PretrainSettings) -> tuple[Images, list[str]]:
    """Read or draw the images to learn from and those held out, and name their classes."""
    from her2pipe import cifar, textures

    if pretrain.images != SYNTHETIC:
        found = cifar.read(pretrain.images, pretrain.images_md5)
        return found, [str(k) for k in range(1 + max(int(y.max()) for _, y in found.values()))]
    _tell("the images are drawn shapes, a stand-in for demonstrations; give CIFAR-100 for real use")
    count, seed = pretrain.synthetic_images, pretrain.pretrain_seed
    drawn = textures.draw(count, seed), textures.draw(count // 5, seed + 1)
    return dict(zip(("train", "validation"), drawn, strict=True)), list(textures.KINDS)


class _Batches:
    """Batches of images that stay on the device, and are enlarged there."""

    def __init__(self, images: Images, pretrain: PretrainSettings, about, device):
        import torch

        self._data = {
            side: tuple(torch.from_numpy(part).to(device) for part in pair)
            for side, pair in images.items()
        }
        self._pretrain, self._about = pretrain, about

    def __call__(self, side: str, epoch: int | None):
        """Yield images and labels; shuffled and mirrored when an epoch is given."""
        import torch
        from torch.nn import functional

        from her2pipe import augment, networks

        images, labels = self._data[side]
        pretrain = self._pretrain
        random = np.random.default_rng([pretrain.pretrain_seed, epoch or 0])
        order = np.arange(len(labels)) if epoch is None else random.permutation(len(labels))
        for chosen in torch.from_numpy(order).to(images.device).split(pretrain.batch_size):
            size = (pretrain.input_px, pretrain.input_px)
            batch = functional.interpolate(images[chosen].float(), size, mode="bilinear")
            if epoch is not None and pretrain.mirror:
                batch = augment.mirror(batch, random)
            batch = networks.standardise(batch, self._about["mean"], self._about["std"])
            yield networks.arrange(batch), labels[chosen]


def _about(model, images: Images, classes: list[str], pretrain: PretrainSettings) -> dict[str, Any]:
    """Collect what must be known about the model to use it and to repeat it."""
    from her2pipe import learn, networks

    return {
        **networks.describe(model, pretrain.architecture, pretrain.input_px),
        "classes": classes,
        "images": {
            "source": SYNTHETIC if pretrain.images == SYNTHETIC else "CIFAR-100",
            "digest": learn.digest_of(*(part for pair in images.values() for part in pair)),
            **{side: len(labels) for side, (_, labels) in images.items()},
        },
        "settings": json.loads(flags.as_json(pretrain)),
    }
