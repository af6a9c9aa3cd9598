"""Damage of stores and encodings: found, named, and nothing foreign followed."""

import hashlib
import json

import h5py
import numpy as np
import pytest

from her2pipe import store
from her2pipe.errors import Her2Error


@pytest.fixture
def files(tmp_path, make):
    """A store of three patches and an encoding of six."""
    corners = [(0, 0), (64, 0), (128, 64)]
    make.store(tmp_path / "S.h5", make.stained(3, 1), corners, np.array([0, 0.5, 1], np.float32))
    make.encoding(tmp_path / "E.h5", np.full((6, 3), 1 / 3), features=np.eye(6, 4))
    return tmp_path


def read_store(path):
    """Read all that a store holds."""
    with store.PatchStore(path) as patches:
        pixels = [patches.pixels(i).tobytes() for i in range(len(patches))]
        arrays = patches.coords, patches.variance, patches.tumour
        texts = patches.metadata, patches.stain, patches.overview, patches.icc
        return [*texts, *pixels, *(array.tobytes() for array in arrays)]


def read_encoding(path):
    encoding = store.read_encoding(path)
    arrays = encoding.coords, encoding.probabilities, encoding.features
    return [encoding.metadata, *(array.tobytes() for array in arrays)]


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        *(("S", n) for n in ("coords", "variance", "tumour", "jpeg/offsets", "overview")),
        ("S", "stain/matrix"),
        *(("E", n) for n in ("coords", "probabilities", "features")),
    ],
)
def test_one_bit_of_a_dataset(files, name, dataset):
    path = files / f"{name}.h5"
    with h5py.File(path) as file:
        data = file[dataset]
        place = data.id.get_offset() + data.dtype.itemsize // 2 - 1
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(Her2Error, match="damaged or not ours") as caught:
        (read_store if name == "S" else read_encoding)(path)
    assert caught.value.where == str(path)


def test_files_of_version_1_are_read(files):
    for name, read in (("S", read_store), ("E", read_encoding)):
        path = files / f"{name}.h5"
        before = read(path)
        with h5py.File(path, "r+") as file:
            file.attrs["version"] = 1
            del file.attrs["texts_sha256"]
            file.visititems(lambda _, item: item.attrs.pop("sha256", None))
        assert read(path) == before


def test_what_a_group_has_lost_is_missed(files):
    """A name or an attribute of a group; files of before groups had a digest are read."""
    path, before = files / "S.h5", read_store(files / "S.h5")
    with h5py.File(path, "r+") as file:
        file.move("stain", "stein")
    with pytest.raises(Her2Error, match="groups do not match their checksum"):
        read_store(path)
    with h5py.File(path, "r+") as file:
        file.move("stein", "stain")
        file["stain"].attrs["method"] = "vahad`ne"
    with pytest.raises(Her2Error, match="groups do not match their checksum"):
        read_store(path)
    with h5py.File(path, "r+") as file:
        file["stain"].attrs["method"] = "vahadane"
    assert read_store(path) == before
    with h5py.File(path, "r+") as file:
        del file.attrs["groups_sha256"]
        texts = {k: v for k, v in file.attrs.items() if k not in ("texts_sha256", "slide")}
        texts = {k: v for k, v in texts.items() if isinstance(v, str)}
        digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()
        file.attrs["texts_sha256"] = digest
    assert read_store(path) == before


def test_a_dataset_without_a_digest_is_not_ours(files):
    with h5py.File(files / "E.h5", "r+") as file:
        del file["features"].attrs["sha256"]
    with pytest.raises(Her2Error, match="features does not match its checksum"):
        read_encoding(files / "E.h5")
    assert store.read_encoding(files / "E.h5", features=False).features.shape == (6, 0)


def change(path, name, values):
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 1
        file.visititems(lambda _, item: item.attrs.pop("sha256", None))
        del file[name]
        if values is not None:
            file[name] = values


@pytest.mark.parametrize(
    ("file", "name", "values", "reason"),
    [
        ("S", "coords", None, "it lacks coords"),
        ("S", "coords", np.zeros((3, 3), np.int32), "coords is int32 of shape"),
        ("S", "coords", np.zeros((3, 2)), "coords is float64"),
        ("S", "coords", np.array([[0, 0], [-1, 0], [0, 0]]), "outside the slide"),
        ("S", "coords", np.array([[0, 0], [0, 640], [0, 0]]), "outside the slide"),
        ("S", "jpeg/offsets", np.array([0, 9, 5, 7]), "jpeg/offsets are not those"),
        ("S", "variance", np.zeros(2, np.float32), "variance is float32 of shape"),
        ("S", "variance", np.full(3, -1, np.float32), "variance holds -1"),
        ("S", "stain/matrix", np.full((2, 3), np.nan), "not numbers"),
        ("S", "jpeg", None, "it lacks jpeg"),
        ("S", "jpeg", np.zeros(3), "jpeg/offsets"),
        ("S", "coords", h5py.SoftLink("/variance"), "coords is a link to elsewhere"),
        ("S", "coords", h5py.ExternalLink("other.h5", "coords"), "a link to elsewhere"),
        ("E", "probabilities", np.full((6, 3), 4e37, np.float32), "probabilities holds 4e"),
        ("E", "probabilities", np.full((6, 2), 0.5, np.float32), "probabilities is float32 of"),
        ("E", "features", np.zeros((5, 4), np.float16), "features is float16 of shape"),
        ("E", "features", np.zeros((6, 4), "S3"), "features is |S3"),
    ],
)
def test_what_cannot_be_is_refused(files, file, name, values, reason):
    path = files / f"{file}.h5"
    change(path, name, values)
    with pytest.raises(Her2Error, match="damaged or not ours") as caught:
        (read_store if file == "S" else read_encoding)(path)
    assert reason in caught.value.what


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        ("status", None, "it lacks the attribute status"),
        ("status", "maybe", "its status is 'maybe'"),
        ("slide", "../../x", "which is no file name"),
        ("slide", "/etc/x", "which is no file name"),
        ("slide", "..", "which is no file name"),
        ("slide", "a\nb", "which is no file name"),
        ("slide", "x" * 300, "which is no file name"),
        ("view", "1024", "its attributes do not match their checksum"),
        ("slide", 5, "its attribute slide is 5"),
        ("width_px0", -4, "its attribute width_px0 is -4"),
        ("width_px0", "wide", "its attribute width_px0 is 'wide'"),
    ],
)
def test_attributes_that_cannot_be(files, attribute, value, reason):
    for name, read in (("S", read_store), ("E", read_encoding)):
        path = files / f"{name}.h5"
        with h5py.File(path, "r+") as file:
            del file.attrs[attribute]
            if value is not None:
                file.attrs[attribute] = value
        with pytest.raises(Her2Error, match="damaged or not ours") as caught:
            read(path)
        assert reason in caught.value.what


def test_absurd_claims_and_raw_storage(files):
    """Nothing is allocated for what a file does not hold; bytes of other files are not read."""
    path = files / "S.h5"
    (files / "raw").write_bytes(bytes(24))
    with h5py.File(path, "r+") as file:
        del file["coords"]
        file.create_dataset("coords", (1 << 40, 2), "i4", chunks=(1 << 20, 2))
    with pytest.raises(Her2Error, match=r"coords claims .* more than it holds"):
        read_store(path)
    with h5py.File(path, "r+") as file:
        del file["coords"]
        raw = [(str(files / "raw"), 0, 24)]
        file.create_dataset("coords", (3, 2), "i4", external=raw)
    with pytest.raises(Her2Error, match="coords lies in other files"):
        read_store(path)


def test_names_of_images_are_file_names(files):
    images = store.Images([store.ImageMetadata("../I")])
    with store.write_patches(files / "P.h5") as writer:
        writer.add(b"x", 0, 0, 1.0)
        writer.finish(store.PatchMetadata(slide="P", view="whole"), images=images)
    with pytest.raises(Her2Error, match=r"an image is named .*, which is no file name"):
        store.PatchStore(files / "P.h5")


def test_a_patch_that_claims_another_size_is_not_decoded(tmp_path, make):
    import simplejpeg

    path = tmp_path / "S.h5"
    wide = simplejpeg.encode_jpeg(np.zeros((64, 4096, 3), np.uint8))
    with store.write_patches(path) as writer:
        writer.add(wide, 0, 0, 1.0)
        writer.finish(store.PatchMetadata(slide="S", patch_size=64))
    with (
        store.PatchStore(path) as patches,
        pytest.raises(Her2Error, match="it is of 4096 x 64 px, not of 64"),
    ):
        patches.pixels(0)


def test_what_is_no_probability_is_found_in_files_of_version_1(files):
    for value, words in (
        (np.nan, "not numbers"),
        (np.inf, "not within"),
        (1.5, "not within"),
    ):
        values = np.full((6, 3), 1 / 3, np.float32)
        values[2, 1] = value
        change(files / "E.h5", "probabilities", values)
        with pytest.raises(Her2Error, match=words):
            read_encoding(files / "E.h5")


def test_numbers_in_another_order_of_bytes(files):
    """As other programs on other machines write them; torch takes the machine's own only."""
    before = store.read_encoding(files / "E.h5")
    for name in ("coords", "probabilities", "features"):
        values = getattr(before, name)
        change(files / "E.h5", name, values.astype(values.dtype.newbyteorder(">")))
    after = store.read_encoding(files / "E.h5")
    for name in ("coords", "probabilities", "features"):
        assert getattr(after, name).dtype.isnative
        assert getattr(after, name).tolist() == getattr(before, name).tolist()


def test_zeros_and_tiny_numbers_are_numbers(files):
    values = np.full((6, 3), -0.0, np.float32)
    values[:, 1] = np.float32(1e-42)
    change(files / "E.h5", "probabilities", values)
    assert store.read_encoding(files / "E.h5").probabilities.tolist() == values.tolist()


def test_a_class_named_twice(files):
    with h5py.File(files / "E.h5", "r+") as file:
        file.attrs["version"] = 1
        file.attrs["classes"] = '["a", "b", "a"]'
    with pytest.raises(Her2Error, match="one of them twice"):
        read_encoding(files / "E.h5")
