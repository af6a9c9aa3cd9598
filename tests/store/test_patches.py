"""Patch stores and encodings: what goes in comes out, and nothing half-written stays."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from her2pipe import store
from her2pipe.errors import Her2Error


def test_patches_come_back(tmp_path, make):
    pixels = make.stained(5, 1)
    coords = [(0, 0), (64, 0), (128, 64), (0, 640), (64, 704)]
    path = make.store(tmp_path / "S.h5", pixels, coords, np.linspace(0, 1, 5, dtype=np.float32))
    with store.PatchStore(path) as found:
        assert len(found) == 5
        assert found.coords.tolist() == [list(c) for c in coords]
        assert found.coords.dtype == np.int32
        assert found.tumour.tolist() == [0, 0.25, 0.5, 0.75, 1]
        assert found.exclusion_reason == ""
        for i in range(5):
            difference = np.abs(found.pixels(i).astype(int) - pixels[i])
            assert difference.mean() < 4
        assert found.pixels(0, at_least_px=32).shape == (32, 32, 3)
        assert found.pixels(0, at_least_px=33).shape[0] in range(33, 65)
        assert found.stain["method"] == "vahadane"
        assert found.overview[:2] == b"\xff\xd8"


def test_a_decoder_shrinks_no_part_of_a_pixel(tmp_path, make):
    """5 eighths of 50 px are 31.25, which it would round up: the picture would be stretched."""
    path = make.store(tmp_path / "S.h5", make.stained(1, 1, px=50), [(0, 0)])
    with store.PatchStore(path) as found:
        assert [len(found.pixels(0, at_least_px=px)) for px in (25, 28, 40)] == [25, 50, 50]


def test_names_are_those_of_the_format(tmp_path, make):
    path = make.store(tmp_path / "S.h5", make.stained(2, 1), [(0, 0), (64, 0)])
    with h5py.File(path) as file:
        assert file.attrs["format"] == "her2pipe/patches"
        assert file.attrs["version"] == 2
        assert file["jpeg/bytes"].dtype == np.uint8
        assert file["jpeg/bytes"].fletcher32
        assert file["jpeg/offsets"].shape == (3,)
        assert file["jpeg/offsets"][-1] == file["jpeg/bytes"].shape[0]
        assert file["stain/matrix"].shape == (2, 3)
        assert file["stain/max_concentration"].shape == (2,)
        assert np.isnan(file["tumour"][:]).all()


def test_many_flushes_keep_order(tmp_path, make, monkeypatch):
    monkeypatch.setattr("her2pipe.store.patches.FLUSH_BYTES", 1)
    monkeypatch.setattr("her2pipe.store.patches.CHUNK_BYTES", 64)  # what is less waits
    pixels = make.stained(4, 2)
    path = make.store(tmp_path / "S.h5", pixels, [(i, 0) for i in range(4)])
    with store.PatchStore(path) as found:
        for i in range(4):
            assert np.abs(found.pixels(i).astype(int) - pixels[i]).mean() < 4


@pytest.mark.parametrize(
    ("sizes", "most"), [((30, 100, 1), 0), ((1 << 20, 1 << 20, 30), 0), ((9 << 20, 30), 1 << 17)]
)
def test_chunks_leave_no_gap(tmp_path, sizes, most):
    """HDF5 would fill up the last one, as where more comes than is held; each has a sum."""
    with store.write_patches(tmp_path / "S.h5") as writer:
        for i, size in enumerate(sizes):
            writer.add(bytes([i]) * size, i, 0, 1.0)
        writer.finish(store.PatchMetadata(slide="S"))
    with h5py.File(tmp_path / "S.h5") as file:
        data = file["jpeg/bytes"]
        chunks = -(-sum(sizes) // (1 << 17))
        assert data.size == sum(sizes)
        assert 0 <= data.id.get_storage_size() - data.size < 4 * chunks + chunks + most
    with store.PatchStore(tmp_path / "S.h5") as found:
        assert [found.stored(i) for i in range(len(sizes))] == [
            bytes([i]) * size for i, size in enumerate(sizes)
        ]


def test_an_excluded_slide_is_an_empty_store(tmp_path, make):
    path = make.store(tmp_path / "S.h5", [], [], status="excluded", reason="no tissue")
    with store.PatchStore(path) as found:
        assert len(found) == 0
        assert found.exclusion_reason == "no tissue"


def test_a_failure_leaves_nothing(tmp_path):
    def stop_half_way():
        with store.write_patches(tmp_path / "S.h5") as writer:
            writer.add(b"x", 0, 0, 1.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop_half_way()
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_what_stood_there(tmp_path, make):
    path = make.encoding(tmp_path / "S.h5", [[1, 0, 0]])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="reshape"):
        store.write_encoding(
            path, np.zeros(3), np.zeros((1, 3)), np.zeros((1, 4)), store.EncodingMetadata()
        )
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["S.h5"]


@pytest.mark.parametrize("content", [b"", b"not hdf5 at all", b"\x89HDF\r\n\x1a\n" + b"\0" * 50])
def test_broken_files_are_named(tmp_path, content):
    path = tmp_path / "S.h5"
    path.write_bytes(content)
    with pytest.raises(Her2Error, match="not a readable HDF5 file") as caught:
        store.PatchStore(path)
    assert caught.value.where == str(path)


def test_the_wrong_kind_is_reported(tmp_path, make):
    path = make.encoding(tmp_path / "S.h5", [[1, 0, 0]])
    with pytest.raises(
        Her2Error, match="expected her2pipe/patches v1 to v2, found her2pipe/encoding v2"
    ):
        store.PatchStore(path)


def test_damaged_patches_are_noticed(tmp_path, make):
    path = make.store(tmp_path / "S.h5", make.stained(1, 1), [(0, 0)])
    with h5py.File(path, "r+") as file:
        file["jpeg/bytes"][:64] = 0
    with (
        store.PatchStore(path) as found,
        pytest.raises(Her2Error, match="patch 0 cannot be read"),
    ):
        found.pixels(0)


def test_encodings_are_listed_by_slide(tmp_path, make):
    for folder, slide in (("0of2", "B"), ("1of2", "A")):
        (tmp_path / folder).mkdir()
        make.encoding(tmp_path / folder / f"{slide}.h5", [[1, 0, 0]])
    found = store.encodings([tmp_path / "0of2", tmp_path / "1of2"])
    assert [p.stem for p in found] == ["A", "B"]
    encoding = store.read_encoding(found[0])
    assert encoding.features.dtype == np.float16
    assert encoding.probabilities.dtype == np.float32


def test_a_patch_read_twice_is_the_same_and_damage_is_found(tmp_path, monkeypatch):
    """The second time bytes come straight from the file; sums are checked before that."""
    monkeypatch.setattr("her2pipe.store.patches.CHUNK_BYTES", 64)  # patches straddle chunks
    random = np.random.default_rng(0)
    patches = [random.integers(0, 256, n, np.uint8).tobytes() for n in (30, 100, 1, 200, 61)]
    with store.write_patches(tmp_path / "a.h5") as writer:
        for i, patch in enumerate(patches):
            writer.add(patch, i, 0, 1.0)
        writer.finish(store.PatchMetadata(slide="a"))
    with store.PatchStore(tmp_path / "a.h5") as first:
        for _ in range(2):
            assert [first.stored(i) for i in (3, 0, 4, 2, 1)] == [
                patches[i] for i in (3, 0, 4, 2, 1)
            ]
        assert first._data._checked == set(range(7))  # 392 bytes
        place = first._data._places[3]
    data = bytearray((tmp_path / "a.h5").read_bytes())
    data[place] ^= 1
    (tmp_path / "a.h5").write_bytes(data)
    with store.PatchStore(tmp_path / "a.h5") as damaged:
        assert damaged.stored(0) == patches[0]
        with pytest.raises(Her2Error, match="patch 3 cannot be read"):
            damaged.pixels(3)


def test_locks_of_others_are_not_waited_for(tmp_path, make):
    """Shared file systems lock badly: HDF5 never asks them, whatever the environment says."""
    path = make.store(tmp_path / "S.h5", make.stained(2, 1), [(0, 0), (64, 0)])
    code = f"""
import fcntl
from her2pipe import store
with open({str(path)!r}, "rb+") as held:
    fcntl.flock(held, fcntl.LOCK_EX)
    assert len(store.PatchStore({str(path)!r})) == 2
    import h5py
    h5py.File({str(path)!r}).close()
"""
    environment = os.environ | {"HDF5_USE_FILE_LOCKING": "TRUE"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
