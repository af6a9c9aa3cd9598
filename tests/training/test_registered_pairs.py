"""Pairs of H&E and IHC: found, divided, cut in the same places, and accounted for."""

import numpy as np
import pytest
from PIL import Image

from her2pipe.config import StainSettings
from her2pipe.errors import Her2Error
from her2pipe.stain.base import estimate
from her2pipe.store import PatchStore
from her2pipe.training import dab_regression
from her2pipe.training.registered_pairs import Cutter, Drawn, Folder, group, pack, split

CUTTER = Cutter(pair_px=48, input_px=24, stain=StainSettings(), variance_min=50)


def write(folder, name, he, ihc, part=""):
    for side, image in (("HE", he), ("IHC", ihc)):
        place = folder / side / part
        place.mkdir(parents=True, exist_ok=True)
        if image is not None:
            Image.fromarray(image).save(place / name)


def brown(level, px=110):
    """An IHC image of DAB of one density below a strip of glass."""
    od = np.full((px, px, 1), level) * [0.27, 0.57, 0.78]
    od[:4] = 0
    return np.uint8(255 * np.exp(-od))


@pytest.fixture
def folder(tmp_path, make):
    """Six pairs of 110 px, whose DAB grows from picture to picture; and two files alone."""
    pictures = make.stained(6, 7, cells=30, px=110)
    for i, picture in enumerate(pictures):
        write(tmp_path / "p", f"{i:05}_train_{i % 4}+.png", picture, brown(0.1 * i))
    write(tmp_path / "p", "90000_x.png", pictures[0], None)
    write(tmp_path / "p", "90001_x.png", None, pictures[0])
    return tmp_path / "p"


def test_a_folder_of_pairs_and_files_alone(folder):
    found = Folder(folder)
    assert found.names == [f"{i:05}_train_{i % 4}+.png" for i in range(6)]
    assert found.alone == {
        "90000_x.png": "no IHC image of this name",
        "90001_x.png": "no H&E image of this name",
    }
    he, ihc = found.read(2)
    assert he.shape == ihc.shape == (110, 110, 3)
    assert (ihc == brown(0.2)).all()


def test_of_the_published_layout_the_training_part(tmp_path, make):
    picture = make.stained(1, 1, px=64)[0]
    write(tmp_path, "00001_train_0.png", picture, picture, "train")
    write(tmp_path, "00001_test_0.png", picture, picture, "test")
    assert Folder(tmp_path).names == ["00001_train_0.png"]


def test_no_pairs_are_reported(tmp_path, make):
    with pytest.raises(Her2Error, match="no folders HE and IHC"):
        Folder(tmp_path)
    picture = make.stained(1, 1, px=64)[0]
    write(tmp_path, "a.png", picture, None)
    write(tmp_path, "b.png", None, picture)
    with pytest.raises(Her2Error, match="no image of the 1 in HE has a partner"):
        Folder(tmp_path)


def test_images_of_one_number_stay_on_one_side():
    names = [f"{i:05}_{part}_2+.png" for i in range(50) for part in ("a", "b")]
    sides = split(names, 0.2, seed=3)
    assert sides == split(names, 0.2, seed=3) != split(names, 0.2, seed=4)
    assert sides.count("validation") == 20
    assert sides[::2] == sides[1::2]
    assert split(["x.png", "y.png"], 0.01, 1).count("validation") == 1
    assert [group("00123_train_2+.png"), group("case.png")] == ["00123", "case"]


def test_tiles_are_of_the_same_place_in_both(folder, tmp_path):
    source = Folder(folder)
    packed = pack(source, ["train"] * 5 + ["validation"], CUTTER, tmp_path / "s.h5")
    with PatchStore(tmp_path / "s.h5") as store:
        assert len(store) == 24  # two by two of 48 px in 110
        assert store.coords[:4].tolist() == [[0, 0], [48, 0], [0, 48], [48, 48]]
        assert store.pixels(0).shape == (24, 24, 3)
        for (_, tile, profile), dab in zip(packed.items["train"], packed.dab["train"], strict=True):
            he, ihc = source.read(profile)
            x, y = store.coords[tile]
            amount = dab_regression.dab(ihc)[y : y + 48, x : x + 48]
            assert np.allclose(dab, dab_regression.statistics(amount))
            mean = he[y : y + 48, x : x + 48].mean((0, 1))
            assert np.abs(store.pixels(tile).mean((0, 1)) - mean).max() < 3
    means = packed.dab["train"][2::4, 0]  # a lower tile of each: no glass
    assert np.allclose(means, 0.1 * np.arange(5), atol=0.02)
    own = estimate(source.read(0)[0], StainSettings())
    assert packed.profiles[0].digest() == own.digest()


def test_threads_change_nothing(folder, tmp_path):
    sides = split(Folder(folder).names, 0.2, 1)
    one, three = (pack(Folder(folder), sides, CUTTER, tmp_path / f"{n}.h5", n) for n in (1, 3))
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "3.h5").read_bytes()
    for side in ("train", "validation"):
        assert (one.dab[side] == three.dab[side]).all()
        assert (one.items[side] == three.items[side]).all()


def test_every_pair_is_accounted_for(folder, tmp_path, make):
    names = Folder(folder).names
    (folder / "IHC" / names[0]).write_bytes((folder / "IHC" / names[0]).read_bytes()[:200])
    (folder / "HE" / names[1]).write_text("no image")
    Image.fromarray(brown(0.2, 100)).save(folder / "IHC" / names[2])
    write(folder, "00006_small.png", make.stained(1, 1, px=40)[0], brown(0.1, 40))
    write(folder, "00007_glass.png", np.full((110, 110, 3), 240, np.uint8), brown(0))
    source = Folder(folder)
    sides = ["validation" if i == 4 else "train" for i in range(len(source.names))]
    packed = pack(source, sides, CUTTER, tmp_path / "s.h5", threads=2)
    why = {row["pair"]: row["exclusion_reason"] for row in packed.manifest}
    assert list(why) == [*source.names, "90000_x.png", "90001_x.png"]
    assert "IHC image cannot be read" in why[names[0]]
    assert "HE image cannot be read" in why[names[1]]
    assert why[names[2]] == "H&E and IHC differ in size: 110 x 110 and 100 x 100 px"
    assert why[names[3]] == why[names[4]] == why[names[5]] == ""
    assert why["00006_small.png"] == "40 x 40 px, smaller than a tile of 48"
    assert "grey-level variance of 50" in why["00007_glass.png"]
    assert why["90000_x.png"] == "no IHC image of this name"
    assert len(packed.items["train"]) == 8


def test_a_side_without_pairs_is_reported(folder, tmp_path):
    with pytest.raises(Her2Error, match="no pair of the validation side") as message:
        pack(Folder(folder), ["train"] * 6, CUTTER, tmp_path / "s.h5")
    assert "option --pairs" in str(message.value)
    assert not (tmp_path / "s.h5").exists() or PatchStore(tmp_path / "s.h5")


def test_settings_are_those_the_slides_were_tiled_with(tmp_path, make):
    store = PatchStore(make.store(tmp_path / "a.h5", make.stained(2, 1), [(0, 0), (64, 0)]))
    assert Cutter.like(store, 64, 32).stain == StainSettings()
    store.metadata.settings = '{"stain_pixels": 900, "variance_min": 77.0, "patch_px": 64}'
    cutter = Cutter.like(store, 64, 32)
    assert cutter.stain.stain_pixels == 900
    assert cutter.variance_min == 77


@pytest.mark.slow
def test_drawn_pairs_show_every_severity():
    source = Drawn(4, seed=5)
    assert source.names == [f"synthetic-{i:04}" for i in range(4)]
    assert (source.read(1)[0] == Drawn(4, seed=5).read(1)[0]).all()
    cutter = Cutter(pair_px=128, input_px=64, stain=StainSettings(), variance_min=500)
    order = np.argsort(source._severities)
    dense = [np.mean([tile.dab[0] for tile in cutter(source, i)[1]]) for i in order]
    assert dense == sorted(dense)
    assert dense[-1] > 3 * dense[0]
    many = Drawn(20, seed=5)
    kept = np.array(many.divide(0.2, seed=7)) == "validation"
    assert np.diff(np.sort(many._severities[kept])).tolist() == pytest.approx([1.0] * 3)


def test_published_pairs_are_read(data, tmp_path):
    if not (data / "bci" / "HE").is_dir():
        pytest.skip("no BCI images")
    source = Folder(data / "bci")
    assert source.names == ["00345_test_0.png", "00820_test_2+.png"]
    assert set(source.alone.values()) == {"no H&E image of this name"}
    cutter = Cutter(pair_px=512, input_px=224, stain=StainSettings(), variance_min=500)
    packed = pack(source, ["train", "validation"], cutter, tmp_path / "s.h5", 2)
    assert not any(profile.fallback for profile in packed.profiles)
    none, two = (packed.dab[side] for side in ("train", "validation"))
    assert len(two) == 4
    assert two[:, 3].min() > none[:, 3].max()  # p90: stained membranes
