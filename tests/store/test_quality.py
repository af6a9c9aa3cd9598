"""Artefacts and tissue in stores and encodings, and patches that are left out."""

import h5py
import numpy as np
import pytest

from her2pipe.errors import Her2Error
from her2pipe.store import (
    EncodingMetadata,
    PatchMetadata,
    PatchQuality,
    PatchStore,
    Tissue,
    read_encoding,
    write_encoding,
    write_patches,
)

NAMES = ("blur", "pen")
REASONS = np.array([0, 1, 2, 3], np.uint8)


def store_of(path, quality=None, tissue=None):
    import simplejpeg

    metadata = PatchMetadata(
        slide=path.stem, patch_size=16, width_px0=64, height_px0=16, patch_size_level0=16
    )
    patch = simplejpeg.encode_jpeg(np.full((16, 16, 3), 200, np.uint8))
    with write_patches(path) as writer:
        for x in range(0, 64, 16):
            writer.add(patch, x, 0, 600)
        writer.finish(metadata, quality=quality, tissue=tissue)
    return path


def test_a_store_keeps_artefacts_and_tissue(tmp_path):
    values = {name: np.linspace(0, 1, 4, dtype=np.float32) for name in NAMES}
    mask = np.zeros((5, 9), bool)
    mask[1:3, 2:6] = True
    outlines = [np.array([[1, 1], [5, 1], [5, 3]], np.int32), np.array([[0, 0], [1, 0], [1, 1]])]
    path = store_of(tmp_path / "S.h5", PatchQuality(values, REASONS), Tissue(mask, outlines))
    with PatchStore(path) as store:
        assert store.reason_names == NAMES
        assert (store.reasons == REASONS).all()
        assert (store.quality["pen"] == values["pen"]).all()
        assert store.rejected(["pen"]).tolist() == [False, False, True, True]
        assert store.rejected(["pen", "blur"]).tolist() == [False, True, True, True]
        assert not store.rejected(["fold"]).any()
        tissue = store.tissue
    assert (tissue.mask == mask).all()
    assert [line.tolist() for line in tissue.outlines] == [line.tolist() for line in outlines]


def test_a_store_without_them_is_read_as_before(tmp_path):
    with PatchStore(store_of(tmp_path / "S.h5")) as store:
        assert (store.quality, store.reason_names, store.tissue) == ({}, (), None)
        assert not store.rejected(["pen"]).any()


def test_reasons_without_a_name_are_damage(tmp_path):
    values = {name: np.zeros(4, np.float32) for name in NAMES}
    path = store_of(tmp_path / "S.h5", PatchQuality(values, REASONS + 4))
    with pytest.raises(Her2Error, match="bits beyond"):
        PatchStore(path)


def encoding_of(path, **options):
    metadata = EncodingMetadata(
        slide=path.stem,
        classes=("a", "b"),
        width_px0=64,
        height_px0=16,
        patch_size_level0=16,
        reason_names=NAMES if options else (),
    )
    coords = np.stack([np.arange(4) * 16, np.zeros(4, int)], 1)
    p = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]])
    write_encoding(path, coords, p, np.arange(8).reshape(4, 2), metadata, **options)
    return read_encoding(path)


def test_an_encoding_carries_the_reasons_and_leaves_patches_out(tmp_path):
    encoding = encoding_of(tmp_path / "S.h5", reasons=REASONS)
    assert (encoding.reasons == REASONS).all()
    kept = encoding.without(["pen"])
    assert kept.coords[:, 0].tolist() == [0, 16]
    assert kept.features.tolist() == [[0, 1], [2, 3]]
    assert kept.probabilities[:, 1].tolist() == pytest.approx([0.9, 0.8])
    assert encoding.rejection_note(["pen", "blur"]) == "3 of 4 patches rejected (pen 2, blur 2)"
    assert encoding.without([]) is encoding
    with h5py.File(tmp_path / "S.h5") as file:
        assert file["quality/reasons"].dtype == np.uint8


def test_an_older_encoding_has_no_reasons(tmp_path):
    encoding = encoding_of(tmp_path / "S.h5")
    assert encoding.without(["pen", "blur"]) is encoding
    assert encoding.rejection_note(["pen"]) == ""
