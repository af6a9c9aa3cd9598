"""Encodings: what is written is read, whole or image by image."""

import numpy as np
import pytest

from her2pipe import store
from her2pipe.store import EncodingMetadata, ImageMetadata, Images

METADATA = EncodingMetadata(
    algorithm=2,
    encoder="swin-t",
    classes=("HER2-", "HER2+"),
    model_digest="01ab",
    slide="S",
    stain={"method": "none", "objective": None},
    width_px0=640,
)
COORDS = np.array([[0, 0], [64, 0], [0, 64]])
P = np.array([[0.1, 0.9], [0.5, 0.5], [1, 0]], np.float32)
FEATURES = np.arange(12, dtype=np.float16).reshape(3, 4)


def test_an_encoding_comes_back(tmp_path):
    path = tmp_path / "S.h5"
    store.write_encoding(path, COORDS, P, FEATURES, METADATA)
    found = store.read_encoding(path)
    assert found.metadata == METADATA == store.read_metadata(path)
    assert (found.coords.dtype, found.coords.tolist()) == (np.int32, COORDS.tolist())
    assert found.probabilities.tolist() == P.tolist()
    assert found.features.tolist() == FEATURES.tolist()
    assert store.encoding_shape(path) == (2, 4)
    assert store.read_encoding(path, features=False).features.shape == (3, 0)


def test_a_pack_is_read_image_by_image(tmp_path):
    images = Images(
        [ImageMetadata(f"I-{i}") for i in range(3)], {"I-9": "the file is not an image"}
    )
    store.write_encoding(tmp_path / "0of1.h5", COORDS, P, FEATURES, METADATA, images)
    store.write_encoding(tmp_path / "S.h5", COORDS, P, FEATURES, METADATA)
    found = store.Encodings([tmp_path])
    assert list(found) == ["I-0", "I-1", "I-2", "I-9", "S"]
    assert found["I-1"].probabilities.tolist() == P[1:2].tolist()
    assert (found["I-1"].metadata.slide, found["I-1"].metadata.status) == ("I-1", "ok")
    assert found["I-1"].metadata.classes == METADATA.classes
    assert len(found["I-9"]) == 0
    assert found["I-9"].metadata.reason == "the file is not an image"
    assert len(found["S"]) == 3
    assert found.path("I-2").name == "0of1.h5"
    assert "I-5" not in found


def test_what_is_not_known_is_none(tmp_path):
    """None is stored as NaN; unknown attributes are ignored, lacking ones have defaults."""
    import h5py

    with store.write_patches(tmp_path / "S.h5") as writer:
        writer.finish(store.PatchMetadata(slide="S", mpp=None, objective=40.0))
    with h5py.File(tmp_path / "S.h5", "r+") as file:
        assert np.isnan(file.attrs["mpp"])
        file.attrs["later"] = 1
        del file.attrs["screened"]
    with store.PatchStore(tmp_path / "S.h5") as found:
        assert found.metadata == store.PatchMetadata(slide="S", objective=40.0)
        assert found.metadata.mpp is None


@pytest.mark.parametrize("count", [0, 2])
def test_images_of_a_pack_come_back(tmp_path, count):
    images = Images(
        [ImageMetadata(f"I-{i}", 64 + i, 32, 0.5, f"f{i}", f"p{i}") for i in range(count)],
        {"I-9": "broken"},
    )
    with store.write_patches(tmp_path / "0of1.h5") as writer:
        for i in range(count):
            writer.add(b"x", 0, 0, float(i))
        writer.finish(store.PatchMetadata(slide="0of1", view="whole"), images=images)
    assert store.read_images(tmp_path / "0of1.h5") == images
    with store.PatchStore(tmp_path / "0of1.h5") as pack:
        *kept, excluded = store.slides_of(pack)
        assert [len(image) for image in kept] == [1] * count
        assert [image.metadata.width_px0 for image in kept] == [64, 65][:count]
        assert [image.metadata.patch_size_level0 for image in kept] == [64, 65][:count]
        assert (excluded.metadata.slide, excluded.metadata.reason) == ("I-9", "broken")
        assert (len(excluded), excluded.overview, excluded.stain) == (0, b"", {})
