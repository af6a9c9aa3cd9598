"""Damaged files: a flipped bit is found or changes nothing, and nothing in them is run."""

import errno
import pickle
import resource
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from her2pipe import store
from her2pipe.errors import Her2Error
from her2pipe.training.checkpoint import Checkpoint
from her2pipe.workflow.run_log import Failure

pytestmark = pytest.mark.faults
FLIPS = 250


def contents(path):
    """Read all of a store or an encoding, as bytes and texts."""
    if path.stem == "E":
        encoding = store.read_encoding(path)
        arrays = encoding.coords, encoding.probabilities, encoding.features
        metadata = replace(encoding.metadata, slide="")
        return [str(metadata), *(array.tobytes() for array in arrays)]
    with store.PatchStore(path) as patches:
        pixels = [patches.pixels(i).tobytes() for i in range(len(patches))]
        arrays = [patches.coords, patches.variance, patches.tumour]
        metadata = replace(patches.metadata, slide="")
        texts = [str(metadata), str(patches.stain), patches.overview, patches.icc]
        return [*texts, *pixels, *(array.tobytes() for array in arrays)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["S", "E"])
def test_one_flipped_bit_anywhere(tmp_path, make, name):
    """Of a whole file: what is read is equal, or it is refused in three lines."""
    path = tmp_path / f"{name}.h5"
    if name == "S":
        make.store(path, make.stained(3, 1), [(0, 0), (64, 0), (128, 64)], np.zeros(3, np.float32))
    else:
        make.encoding(path, np.full((40, 3), 1 / 3), features=np.eye(40, 16))
    whole, before = path.read_bytes(), contents(path)
    places = np.random.default_rng(0).integers(0, 8 * len(whole), FLIPS)
    refused, changed = 0, []
    for place in places.tolist():
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            if contents(path) != before:
                changed.append(place)
        except Her2Error as error:
            refused += 1
            changed += [place] if error.where != str(path) else []
    assert changed == []
    assert refused > FLIPS / 4


def test_a_heap_of_texts_without_an_end_is_refused(tmp_path, make):
    """HDF5 follows an object of length 0 for ever."""
    path = tmp_path / "E.h5"
    make.encoding(path, [[0.2, 0.3, 0.5]])
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    first = int.from_bytes(content[heap + 24 : heap + 32], "little")
    assert content[heap + 32 : heap + 32 + first].startswith(b"her2pipe/")
    content[heap + 16] = 0  # the first object becomes free space, whose length counts its header
    content[heap + 24 : heap + 32] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(Her2Error, match="an object of 0 bytes"):
        store.read_encoding(path)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_files_cut_short(tmp_path, make, share):
    for name in ("S", "E"):
        path = tmp_path / f"{name}.h5"
        if name == "S":
            make.store(path, make.stained(2, 1), [(0, 0), (64, 0)])
        else:
            make.encoding(path, [[0.2, 0.3, 0.5]])
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(Her2Error):
            contents(path)


def test_a_store_that_is_no_file(tmp_path):
    import os

    os.mkfifo(tmp_path / "S.h5")
    for path in (tmp_path / "S.h5", tmp_path):
        with pytest.raises(Her2Error, match="the path is no file"):
            store.PatchStore(path)


# --- models --------------------------------------------------------------------------------------


def spoilt(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut":
        del content[len(content) // 2 :]
    elif how == "flipped":
        content[len(content) // 2] ^= 1
    else:
        content[:8] = b"\xff" * 8  # a header of 2^64 bytes
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("how", "has_its_digest"),
    [("cut", False), ("flipped", False), ("cut", True), ("absurd header", True)],
)
def test_spoilt_weights(tmp_path, make, how, has_its_digest):
    import json

    from her2pipe.files import file_digest, write_record
    from her2pipe.models import weights
    from her2pipe.training import dataloader

    make.store(tmp_path / "S.h5", make.stained(2, 1), [(0, 0), (64, 0)])
    with store.PatchStore(tmp_path / "S.h5") as patches:
        model = make.model(tmp_path / "model", dataloader.profile(patches))
    spoilt(model / "model.safetensors", how)
    if has_its_digest:
        described = json.loads((model / "model.json").read_text())
        described["digest"] = file_digest(model / "model.safetensors")
        write_record(model / "model.json", described)
    with pytest.raises(Her2Error, match=r"safetensors"):
        weights.load(model)


def fitted(folder):
    """Write a fitted aggregation of one small network."""
    from her2pipe.aggregation import base

    metadata = base.FitMetadata(
        aggregation="mlp", classes=["HER2-", "HER2+"], features=3, members=1, threshold=0.5
    )
    folder.mkdir()
    base.save(base.FittedModel(metadata, [{"w": np.eye(3, dtype=np.float32)}]), folder)
    return lambda: base.load("mlp", folder)


def encoder(folder):
    """Write the description of a network, which says how its input is standardised."""
    from her2pipe.models.description import ModelDescription

    folder.mkdir()
    fields = {"classes": ["a", "b"], "mean": [0.5, 0.25, 1 / 3], "std": [0.1, 0.2, 0.3]}
    ModelDescription(architecture="test_resnet", **fields, stain={"method": "none"}).write(folder)
    return lambda: ModelDescription.read(folder)


@pytest.mark.parametrize("make_model", [encoder, fitted])
def test_a_flipped_bit_of_a_model_description(tmp_path, make_model):
    """Another mean or threshold gives other scores, silently; weights would still be right."""
    read = make_model(tmp_path / "m")
    path, before = tmp_path / "m" / "model.json", read()
    whole = path.read_bytes()
    for place in range(0, 8 * len(whole), 7):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            same = str(read()) == str(before)
        except Her2Error as error:
            same = error.where == str(path)
        assert same or b'"content_digest"' not in bytes(content), place


@pytest.mark.parametrize("make_model", [encoder, fitted])
def test_a_model_description_edited_by_hand(tmp_path, make_model):
    import json

    read = make_model(tmp_path / "m")
    path = tmp_path / "m" / "model.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written))  # laid out otherwise, and as it was
    read()
    path.write_text(json.dumps({**written, "classes": written["classes"][::-1]}))
    with pytest.raises(Her2Error, match=r"model\.json was changed after it was written"):
        read()
    del written["content_digest"]  # as earlier versions wrote it
    path.write_text(json.dumps({**written, "classes": written["classes"][::-1]}))
    read()


# --- checkpoints ---------------------------------------------------------------------------------


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


def pair():
    torch.manual_seed(1)
    model = torch.nn.Linear(3, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def zipped(path, content):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("checkpoint/data.pkl", content)
        file.writestr("checkpoint/data/0", bytes(1000))


def foreign(path, evil):
    """Write checkpoints of many kinds, one after the other."""
    state = {"digest": "d", "model": {}, "optimiser": {}, "random": [], "history": [], "best": {}}
    model, optimiser = pair()
    good = {**state, "model": model.state_dict(), "optimiser": optimiser.state_dict()}
    good["random"] = [torch.get_rng_state()]
    yield path.write_bytes(b"")
    yield path.write_bytes(b"no checkpoint\n" * 100)
    yield path.write_bytes(pickle.dumps(Evil(evil), 2))
    yield zipped(path, pickle.dumps(Evil(evil), 2))
    yield zipped(path, pickle.dumps({"digest": ""}, 2))
    for content in (
        *(5, [1, 2], {}, {"digest": "d"}, state),
        {**good, "history": 5},
        {**good, "best": 5},
        {**good, "random": [torch.zeros(3)]},
        {**good, "random": []},
        {**good, "optimiser": {"state": 1}},
        {**good, "model": {"weight": torch.zeros(9, 9)}},
    ):
        yield torch.save(content, path)
    torch.save(good, path)
    whole = path.read_bytes()
    for share in (0.01, 0.3, 0.5, 0.9):
        yield path.write_bytes(whole[: int(share * len(whole))])


def test_damaged_and_foreign_checkpoints(tmp_path):
    """Nothing in them is run; three lines name the file and the remedy."""
    checkpoint = Checkpoint(tmp_path / "resume", "d")
    path, evil = tmp_path / "resume" / "checkpoint.pt", tmp_path / "EVIL"
    path.parent.mkdir()
    for _ in foreign(path, evil):
        with pytest.raises(Her2Error, match="the checkpoint is damaged") as caught:
            checkpoint.restore(*pair())
        assert (caught.value.where, caught.value.fix[:9]) == (str(path), "delete it")
    assert not evil.exists()


def test_a_full_disk_in_a_checkpoint(tmp_path):
    """Files of this process may have 4 kB for a moment, as a full disk would have it."""
    checkpoint = Checkpoint(tmp_path / "resume", "d")
    checkpoint.claim()
    model = torch.nn.Linear(300, 300)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(Her2Error, match=r"cannot write: File too large") as caught:
            checkpoint.save(model, torch.optim.SGD(model.parameters(), lr=0.1), [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.where.endswith("checkpoint.pt")
    assert [file.name for file in checkpoint.folder.iterdir()] == ["owner"]


# --- the machine ---------------------------------------------------------------------------------


def cv2_error():
    import cv2

    return cv2.error("OpenCV(4.14.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to alloc")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        cv2_error(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("can't start new thread"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=lambda error: f"{type(error).__name__} {str(error)[:20]}",
)
def test_out_of_memory_anywhere(monkeypatch, capsys, error):
    from her2pipe import cli

    def fail(*_):
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    assert cli.main(["encode"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "her2pipe: out of memory",
        "  where: her2pipe encode",
        "  fix:   give the job more memory, fewer threads, or a smaller batch",
    ]


def test_a_full_disk_in_the_words_of_a_library(monkeypatch, capsys):
    from her2pipe import cli

    def fail(*_):
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(cli, "_run", fail)
    assert cli.main(["train"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "her2pipe: No space left on device"
    assert "make room" in lines[2]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("died with <Signals.SIGTERM: 15>.", "ended from outside (SIGTERM)"),
        ("returned non-zero exit status 143.", "ended from outside (SIGTERM)"),
        ("died with <Signals.SIGKILL: 9>.", "killed, as is done when memory runs out"),
        ("died with <Signals.SIGSEGV: 11>.", "a library crashed"),
    ],
)
def test_signals_in_the_table_of_failures(message, reason):
    failure = Failure(["tile"], [], [], f"Command 'her2pipe tile' {message}")
    assert failure.reason.startswith(reason)


def test_hdf5_out_of_memory_is_not_damage(tmp_path, make, monkeypatch):
    path = make.encoding(tmp_path / "E.h5", [[0.2, 0.3, 0.5]])

    def fail(*_):
        raise RuntimeError("Unable to allocate memory")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", fail)
    with pytest.raises(MemoryError):
        store.read_encoding(path)
