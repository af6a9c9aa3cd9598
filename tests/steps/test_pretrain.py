"""Pre-training: what is read and what never is, the weights, what encoders take over."""

import hashlib
import io
import json
import pickle
import tarfile

import numpy as np
import pytest
import torch
from training_sets import kill_after_a_checkpoint

from her2pipe.config import PretrainSettings, load
from her2pipe.errors import Her2Error
from her2pipe.files import read_table
from her2pipe.models import costs, factory, weights
from her2pipe.synthetic import shapes
from her2pipe.training import cifar100

SMALL = (
    *("--architecture", "test_resnet", "--input-px", "32", "--batch-size", "25", "--learning-rate"),
    *("1e-3", "--device", "cpu"),
)


def python2(images, labels):
    """Pickle a set of images as Python 2 did, byte by byte: the form of the published files."""

    def short(text):
        return b"U" + bytes([len(text)]) + text

    def number(value):
        return b"J" + int(value).to_bytes(4, "little", signed=True)

    raw = images.tobytes()
    dtype = (
        b"cnumpy\ndtype\n("
        + short(b"u1")
        + b"K\x00K\x01tR(K\x03"
        + short(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t"
        + short(b"b")
        + b"tR"
        + b"(K\x01("
        + number(len(images))
        + number(3072)
        + b"t"
        + dtype
        + b"\x89T"
        + len(raw).to_bytes(4, "little")
        + raw
        + b"tb"
    )
    listed = b"](" + b"".join(number(y) for y in labels) + b"e"
    names = b"](" + b"".join(short(b"a\xe9.png") for _ in labels) + b"e"
    return (
        b"\x80\x02}("
        + short(b"filenames")
        + names
        + short(b"data")
        + array
        + short(b"fine_labels")
        + listed
        + b"u."
    )


def python3(images, labels):
    found = {"data": images.reshape(len(images), 3072), "fine_labels": [int(y) for y in labels]}
    return pickle.dumps(found, protocol=2)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_folder(folder, sides, dump=python2):
    """Write train and test; return their MD5 sums."""
    folder.mkdir(parents=True)
    for name, (images, labels) in zip(("train", "test"), sides, strict=True):
        (folder / name).write_bytes(dump(images, labels))
    return [md5(folder / name) for name in ("train", "test")]


@pytest.fixture
def sides():
    random = np.random.default_rng(0)
    return [
        (random.integers(0, 256, (n, 3, 32, 32), np.uint8), random.integers(0, 100, n))
        for n in (20, 8)
    ]


@pytest.mark.parametrize("dump", [python2, python3])
def test_the_folder_is_read(tmp_path, sides, dump):
    sums = write_folder(tmp_path / "cifar-100-python", sides, dump)
    for path in (tmp_path, tmp_path / "cifar-100-python"):
        found = cifar100.read(path, sums)
        for (images, labels), side in zip(sides, ("train", "validation"), strict=True):
            assert (found[side][0] == images).all()
            assert (found[side][1] == labels).all()


def test_the_archive_is_read_by_its_own_sum(tmp_path, sides):
    write_folder(tmp_path / "cifar-100-python", sides)
    archive = tmp_path / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "cifar-100-python", "cifar-100-python")
    found = cifar100.read(archive, [md5(archive).upper()])
    assert (found["validation"][0] == sides[1][0]).all()


def test_published_sums_are_the_default():
    """As torchvision lists them."""
    from torchvision.datasets import CIFAR100

    known = [CIFAR100.tgz_md5, CIFAR100.train_list[0][1], CIFAR100.test_list[0][1]]
    assert PretrainSettings().images_md5 == known


def test_another_sum_is_never_unpickled(tmp_path, sides, monkeypatch):
    monkeypatch.setattr(cifar100._Arrays, "load", lambda self: pytest.fail("it was read"))
    sums = write_folder(tmp_path / "c", sides)
    with pytest.raises(Her2Error, match="it is not read") as error:
        cifar100.read(tmp_path / "c", sums[:1])
    assert error.value.where.endswith("test")


def test_a_pickle_that_would_run_something_does_not(tmp_path, sides):
    class Evil:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    sums = write_folder(tmp_path / "c", sides, lambda images, labels: pickle.dumps(Evil()))
    with pytest.raises(Her2Error, match=r"names builtins\.exec"):
        cifar100.read(tmp_path / "c", sums)
    assert not (tmp_path / "ran").exists()


def test_an_archive_that_is_not_cifar_is_reported(tmp_path, sides, her2pipe):
    code, stderr = her2pipe("pretrain", tmp_path / "m", "--images", tmp_path / "none")
    assert code == 1
    assert stderr.splitlines()[-1].startswith(
        "  fix:   give cifar-100-python.tar.gz, or the folder"
    )
    sums = write_folder(tmp_path / "c", sides, lambda images, labels: pickle.dumps([1, 2]))
    with pytest.raises(Her2Error, match="no CIFAR-100 file"):
        cifar100.read(tmp_path / "c", sums)
    (tmp_path / "a.tar.gz").write_bytes(b"no archive")
    with pytest.raises(Her2Error, match="cannot be unpacked"):
        cifar100.read(tmp_path / "a.tar.gz", [md5(tmp_path / "a.tar.gz")])
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("other"), io.BytesIO())
    with pytest.raises(Her2Error, match="cannot be unpacked"):
        cifar100.read(tmp_path / "b.tar", [md5(tmp_path / "b.tar")])


def test_drawn_shapes_are_the_same_each_time_and_of_all_kinds():
    images, labels = shapes.draw(40, 3)
    again, _ = shapes.draw(40, 3)
    other, _ = shapes.draw(40, 4)
    assert (images == again).all()
    assert (images != other).any()
    assert np.bincount(labels).tolist() == [4] * len(shapes.PATTERNS)
    grey = images.mean(1)
    level, upright = (
        grey[labels == shapes.PATTERNS.index(f"{k} stripes")] for k in ("level", "upright")
    )
    for stripes, still in ((level, 2), (upright, 1)):  # alike along the stripe, unlike across
        along = np.abs(np.diff(stripes, axis=still)).mean()
        across = np.abs(np.diff(stripes, axis=3 - still)).mean()
        assert across > 1.5 * along


@pytest.mark.slow
def test_step_learns_shapes_and_an_encoder_starts_from_it(tmp_path, her2pipe):
    out = tmp_path / "shapes"
    code, stderr = her2pipe(
        "pretrain",
        out,
        "--images",
        "synthetic",
        "--synthetic-images",
        "300",
        "--epochs",
        "5",
        *SMALL,
    )
    assert code == 0, stderr
    assert "stand-in" in stderr
    history = read_table(out / "history.tsv")
    assert len(history) == 5
    assert float(history[-1]["validation_accuracy"]) > 0.3  # chance is 0.1
    about = json.loads((out / "model.json").read_text())
    assert about["images"]["source"] == "synthetic"
    assert (about["images"]["train"], about["images"]["validation"]) == (300, 60)
    assert {p.name for p in out.iterdir()} == {
        "model.safetensors",
        "model.json",
        "history.tsv",
        "history.png",
        "history.svg",
    }
    assert not (tmp_path / ".shapes.resume").exists()
    model = weights.start("test_resnet", 3, 64, str(out)).state_dict()
    trained = weights.load(out)[0].state_dict()
    for name in trained:
        taken = model[name].shape == trained[name].shape and torch.equal(model[name], trained[name])
        assert taken == (not name.startswith("fc.")), name


def test_a_window_table_of_another_input_size_is_fitted(tmp_path):
    """Swin's position tables depend on the input's side; timm resizes them."""
    from safetensors.torch import save_file

    name = "swin_tiny_patch4_window7_224"
    small = factory.create(name, 5, 32)
    save_file(small.state_dict(), tmp_path / "w.safetensors")
    large = weights.start(name, 3, 224, str(tmp_path / "w.safetensors"))
    key = "layers.0.blocks.0.mlp.fc1.weight"
    assert torch.equal(large.state_dict()[key], small.state_dict()[key])
    assert costs.count_parameters(large).total == 27_521_661


@pytest.mark.slow
def test_real_photographs_can_be_trained_on(tmp_path, data, her2pipe):
    """Twelve classes of CIFAR-100, every fourth image held out; chance is 0.08."""
    images, labels = [], []
    for path in sorted((data / "cifar100").glob("*.npz")):
        found = np.load(path, allow_pickle=True)["data"].tolist()
        images.append(np.round((found["x"] * 0.5 + 0.5) * 255).astype(np.uint8))
        labels.append(found["y"])
    images, labels = np.concatenate(images), np.concatenate(labels)
    often = np.argsort(-np.bincount(labels), kind="stable")[:12]
    chosen = np.flatnonzero(np.isin(labels, often))
    images, labels = images[chosen], np.searchsorted(np.sort(often), labels[chosen])
    held = np.zeros(len(labels), bool)
    for k in range(12):
        held[np.flatnonzero(labels == k)[::4]] = True
    sums = write_folder(tmp_path / "c", [(images[s], labels[s]) for s in (~held, held)])
    code, stderr = her2pipe(
        "pretrain",
        tmp_path / "m",
        "--images",
        tmp_path / "c",
        "--images-md5",
        *sums,
        "--epochs",
        "6",
        *SMALL,
    )
    assert code == 0, stderr
    accuracy = float(read_table(tmp_path / "m" / "history.tsv")[-1]["validation_accuracy"])
    assert accuracy > 0.25


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_files(tmp_path, her2pipe):
    words = ["--images", "synthetic", "--synthetic-images", "100", "--epochs", "4", *SMALL]
    words += ["--save-s", "0"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    kill_after_a_checkpoint(["pretrain", killed, *words])
    assert not killed.exists()
    for out in (killed, whole):
        code, message = her2pipe("pretrain", out, *words)
        assert code == 0, message
        assert ("resuming after epoch" in message) == (out == killed)
    for name in ("model.safetensors", "history.tsv", "model.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


STUDY = {
    "cohorts": {"A": {"sheet": "A.tsv", "role": "development"}},
    "methods": {"TL-PA": {"encoder": "swin-t"}},
}


def test_a_pre_training_takes_the_shared_settings():
    study = load.check(
        STUDY
        | {
            "pretrain": {"epochs": 3},
            "pretrainings": {"p": {"batch_size": 7}, "q": None},
            "encoders": {"swin-t": {"pretrain": "p"}},
        },
        "study.yaml",
    )
    assert (study.pretrainings["p"].epochs, study.pretrainings["p"].batch_size) == (3, 7)
    assert study.pretrainings["q"].batch_size == 128


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoders": {"swin-t": {"pretrain": "x"}}}, "unknown pre-training: x"),
        (
            {"encoders": {"swin-t": {"pretrain": "p", "weights": "imagenet"}}},
            "both weights and pretrain",
        ),
        (
            {"train": {"weights": "imagenet"}, "encoders": {"swin-t": {"pretrain": "p"}}},
            "both weights and pretrain",
        ),
        (
            {"encoders": {"swin-t": {"pretrain": "p", "architecture": "resnet50"}}},
            "is resnet50, but its pre-training p is swin_tiny_patch4_window7_224",
        ),
        (
            {"pretrain": {"architecture": "resnet50"}, "encoders": {"swin-t": {"pretrain": "p"}}},
            "but its pre-training p is resnet50",
        ),
        ({"encoders": {"swin-t": {"task": "none"}}}, "its encoder gives none"),
    ],
)
def test_what_does_not_fit_together_is_reported(change, message):
    with pytest.raises(Her2Error) as caught:
        load.check(STUDY | {"pretrainings": {"p": {}}} | change, "study.yaml")
    assert message in str(caught.value)
