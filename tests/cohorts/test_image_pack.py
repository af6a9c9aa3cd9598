"""Cohorts of images: packed by batches, read as slides, each one its own row in the end."""

import cv2
import numpy as np
import pytest
from PIL import Image

from her2pipe.cohorts import image_pack
from her2pipe.cohorts import sheet as cohort
from her2pipe.cohorts.split import batch_of
from her2pipe.config import ImagesSettings, TileSettings
from her2pipe.errors import BadSlideError, Her2Error
from her2pipe.store import Encodings, PatchStore, slides_of


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


@pytest.fixture
def sheet(tmp_path, make):
    """Six images by their sheet: the third is no image, the fifth is cut short."""
    lines = ["slide\tpath\tpatient\tihc\tmpp"]
    for i, picture in enumerate(make.stained(6, 3)):
        path = write(tmp_path / "i" / f"{i}.png", picture)
        lines.append(f"I-{i}\t{path}\tP{i}\t{i % 3 + 1}+\t0.5")
    (tmp_path / "i" / "2.png").write_text("no image at all")
    whole = (tmp_path / "i" / "4.png").read_bytes()
    (tmp_path / "i" / "4.png").write_bytes(whole[: len(whole) // 2])
    path = tmp_path / "sheet.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def tile(her2pipe, sheet, store, *words):
    return her2pipe("tile", sheet, store, "--view", "whole", "--patch-px", 32, *words)


def test_a_pack_holds_images_and_says_which_it_could_not(tmp_path, sheet, her2pipe, make):
    code, said = tile(her2pipe, sheet, tmp_path / "0of1.h5", "--patch-format", "png")
    assert code == 0, said
    assert "4 of 6 images kept, 2 left out" in said
    pictures = make.stained(6, 3)
    with PatchStore(tmp_path / "0of1.h5") as pack:
        assert pack.images.names == ["I-0", "I-1", "I-3", "I-5"]
        assert pack.images.exclusion_reasons["I-2"] == "the file is not an image"
        assert pack.images.exclusion_reasons["I-4"].startswith("the image cannot be read: ")
        assert pack.stain["method"] == "none"
        assert np.isnan(pack.tumour).all()
        found = slides_of(pack)
        assert [s.metadata.slide for s in found] == [f"I-{i}" for i in (0, 1, 3, 5, 2, 4)]
        half = cv2.resize(pictures[3], (32, 32), interpolation=cv2.INTER_AREA)
        assert np.array_equal(found[2].pixels(0), half)
        assert found[2].metadata.width_px0 == 64
        assert found[2].metadata.mpp == 0.5
        assert [len(s) for s in found] == [1, 1, 1, 1, 0, 0]
        assert found[4].exclusion_reason == "the file is not an image"
        assert found[2].pixel_digest == image_pack.digest(pictures[3])


def test_equal_images_make_equal_packs_whatever_their_labels(tmp_path, sheet, her2pipe):
    assert tile(her2pipe, sheet, tmp_path / "a" / "0of1.h5")[0] == 0
    sheet.write_text(sheet.read_text().replace("3+", "1+"))
    assert tile(her2pipe, sheet, tmp_path / "b" / "0of1.h5")[0] == 0
    one, other = (tmp_path / name / "0of1.h5" for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_batches_share_the_images_out(tmp_path, sheet, her2pipe):
    names = []
    for number in range(2):
        store = tmp_path / f"{number}of2.h5"
        assert tile(her2pipe, sheet, store, "--batch", f"{number}of2")[0] == 0
        with PatchStore(store) as pack:
            own = [s.metadata.slide for s in slides_of(pack)]
        assert all(batch_of(name, 2) == number for name in own)
        names += own
    assert sorted(names) == [f"I-{i}" for i in range(6)]


def test_a_missing_image_is_a_mistake_not_an_exclusion(tmp_path, sheet, her2pipe):
    (tmp_path / "i" / "1.png").unlink()
    code, said = tile(her2pipe, sheet, tmp_path / "0of1.h5")
    assert code == 1
    assert "the image does not exist" in said
    assert not (tmp_path / "0of1.h5").exists()


def test_on_bad_slide_fail_stops(tmp_path, sheet, her2pipe):
    code, said = tile(her2pipe, sheet, tmp_path / "0of1.h5", "--on-bad-slide", "fail")
    assert code == 1
    assert "the file is not an image" in said


def test_a_pack_of_nothing_is_excluded_and_goes_through(tmp_path, her2pipe, make):
    (tmp_path / "x.png").write_text("x")
    sheet = tmp_path / "s.tsv"
    sheet.write_text(f"slide\tpath\tpatient\nX\t{tmp_path / 'x.png'}\tP\n")
    assert tile(her2pipe, sheet, tmp_path / "0of1.h5")[0] == 0
    with PatchStore(tmp_path / "0of1.h5") as pack:
        assert pack.exclusion_reason == "none of 1 images can be used"


@pytest.mark.parametrize(
    ("shape", "corner", "middle"), [("stretch", 10, 200), ("crop", 200, 200), ("pad", 255, 200)]
)
def test_squares(shape, corner, middle):
    """A wide grey image whose left and right quarters are dark."""
    picture = np.full((40, 80, 3), 200, np.uint8)
    picture[:, :20] = picture[:, 60:] = 10
    found = image_pack.square(picture, 20, shape)
    assert found.shape == (20, 20, 3)
    assert found[0, 0].tolist() == [corner] * 3
    assert found[10, 10].tolist() == [middle] * 3


def test_stored_proportions(tmp_path):
    """A circle stays one but for stretch."""
    picture = np.full((60, 120, 3), 255, np.uint8)
    cv2.circle(picture, (60, 30), 20, (0, 0, 0), -1)
    for shape, ratio in (("stretch", 0.5), ("crop", 1), ("pad", 1)):
        dark = image_pack.square(picture, 120, shape)[..., 0] < 128
        assert np.ptp(np.flatnonzero(dark.any(0))) / np.ptp(np.flatnonzero(dark.any(1))) == (
            pytest.approx(ratio, abs=0.06)
        )


def test_transparent_grey_and_turned_images_are_read(tmp_path):
    clear = np.zeros((8, 8, 4), np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert (image_pack.rgb(image_pack.decode(tmp_path / "clear.png")) == 255).all()
    Image.fromarray(np.full((8, 4), 7, np.uint8)).save(tmp_path / "grey.png")
    assert image_pack.rgb(image_pack.decode(tmp_path / "grey.png")).shape == (8, 4, 3)
    turned = Image.fromarray(np.zeros((8, 4, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert image_pack.rgb(image_pack.decode(tmp_path / "turned.jpg")).shape == (4, 8, 3)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(BadSlideError, match="in mode I;16"):
        image_pack.decode(tmp_path / "deep.png")


def test_a_digest_is_of_pixels_not_of_files(tmp_path, make):
    picture = make.stained(1, 1)[0]
    digests = set()
    for name in ("a.png", "b.tif", "c.bmp"):
        digests.add(
            image_pack.digest(image_pack.rgb(image_pack.decode(write(tmp_path / name, picture))))
        )
    assert len(digests) == 1
    assert image_pack.digest(picture.reshape(32, 128, 3)) not in digests


def test_packs_go_through_encode_and_score(tmp_path, sheet, her2pipe, make):
    """One row per image, those left out among them; probabilities as each image alone gets."""
    from her2pipe.files import read_table
    from her2pipe.stain.profile import Profile

    store = tmp_path / "0of1.h5"
    assert tile(her2pipe, sheet, store)[0] == 0
    with PatchStore(store) as pack:
        model = make.model(tmp_path / "model", Profile.from_dict(pack.stain))
    words = ("--model", model, "--device", "cpu")
    assert her2pipe("encode", store, tmp_path / "e", *words)[0] == 0
    found = Encodings([tmp_path / "e"])
    assert list(found) == [f"I-{i}" for i in range(6)]
    assert found["I-2"].metadata.reason == "the file is not an image"
    assert tile(her2pipe, tmp_path / "i" / "3.png", tmp_path / "I-3.h5")[0] == 0
    assert her2pipe("encode", tmp_path / "I-3.h5", tmp_path / "one", *words)[0] == 0
    alone = Encodings([tmp_path / "one"])["3"]
    assert np.allclose(found["I-3"].probabilities, alone.probabilities, atol=1e-6)
    scores = tmp_path / "scores.tsv"
    code, said = her2pipe(
        "score",
        tmp_path / "e",
        scores,
        "--aggregate",
        "mean",
        "--sheet",
        sheet,
        "--endpoint",
        "class",
        "--classes",
        *make.classes,
    )
    assert code == 0, said
    rows = read_table(scores)
    assert [(r["slide"], r["patient"]) for r in rows] == [(f"I-{i}", f"P{i}") for i in range(6)]
    assert [r["flag"] == "excluded" for r in rows] == [i in (2, 4) for i in range(6)]
    assert all(r["patches"] == "1" for r in rows if r["flag"] != "excluded")
    assert rows[2]["reason"] == "the file is not an image"


def test_read_measures(tmp_path, make):
    path = write(tmp_path / "a.png", np.full((10, 20, 3), 7, np.uint8))
    row = cohort.Row("a", str(path), "P", 2)
    found = image_pack.read(row, TileSettings(patch_px=16), ImagesSettings())
    assert found.variance == 0
    assert (found.metadata.width_px0, found.metadata.height_px0) == (20, 10)
    assert np.isnan(found.metadata.mpp)


def test_missing_files_and_bad_sheets(tmp_path):
    with pytest.raises(Her2Error, match="the image does not exist"):
        image_pack.decode(tmp_path / "x.png")
    with pytest.raises(Her2Error, match="the sheet does not exist"):
        image_pack.rows_of(str(tmp_path / "x.tsv"), "", "", ())


def test_status_and_report_know_the_images_of_a_pack(tmp_path, sheet, her2pipe):
    from her2pipe.manifest import Item, Manifest
    from her2pipe.reporting.inputs import OutputIndex
    from her2pipe.workflow import progress

    folder = tmp_path / "whole" / "X"
    assert tile(her2pipe, sheet, folder / "0of1.h5")[0] == 0
    assert progress._excluded(folder / "0of1.h5") == ["I-2", "I-4"]
    ledger = [{"cohort": "X", "slide": f"I-{i}", "status": "scored"} for i in (0, 3)]
    manifest = Manifest((Item("tile", cohort="X", path=str(folder)),))
    scans = OutputIndex(manifest, ledger).scans["X"]
    assert [(s["width_px0"], s["mpp"], s["patches"]) for s in scans] == [(64, 0.5, 1)] * 2
