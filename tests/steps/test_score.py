"""Eq. 2 to 6 against values computed by hand, and the step that applies them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from stores import make_encoding

from her2pipe.aggregation.base import scorer
from her2pipe.config import LabelSettings, ScoreSettings
from her2pipe.files import read_table
from her2pipe.store import EncodingMetadata, read_encoding, write_encoding

SETTINGS = ScoreSettings()
CLASSES = ["HER2-", "HER2+", "Non-tumour"]


def patches(p, kinds):
    """Probabilities with given p(HER2+) whose largest is the wanted class: + - or n(on-tumour)."""
    rows = []
    for positive, kind in zip(p, kinds, strict=True):
        rest = 1 - positive
        if kind == "+":
            assert positive > rest / 2
            rows.append([rest / 2, positive, rest / 2])
        else:
            large, small = (rest, 0.0)
            rows.append([large, positive, small] if kind == "-" else [small, positive, large])
    found = np.array(rows)
    names = [{"+": 1, "-": 0, "n": 2}[kind] for kind in kinds]
    assert (found.argmax(1) == names).all()
    return found


@pytest.fixture
def score(make):
    aggregation = scorer("probabilistic", LabelSettings(), SETTINGS)
    return lambda p, kinds: aggregation.score(make.bag(patches(p, kinds).reshape(-1, 3)))


def test_the_worked_example(score):
    found = score((0.9, 0.8, 0.5, 0.2), "+++-")
    assert found.tumour_patches == 4
    assert found.stained_area == 0.75
    assert found.mean_excess == pytest.approx(0.57)  # K = floor(1.2 + 0.5) = 1: 0.9 - 0.33
    assert found.score == pytest.approx(0.57)
    assert found.level == "3+"


def test_a_faint_slide_scores_nothing(score):
    found = score((0.4, *[0.1] * 9), "-" * 10)
    assert found.tumour_patches == 10
    assert found.stained_area == pytest.approx(0.1)
    assert found.mean_excess == pytest.approx(0.07 / 3)  # K = 3, two of three zero-padded
    assert found.score == 0
    assert found.level == "0"


def test_stained_patches_may_be_non_tumour_so_area_may_exceed_one(score):
    found = score((0.45, 0.45, 0.45, 0.2), "nnn-")  # 0.45 < 0.55: argmax is Non-tumour
    assert found.tumour_patches == 1
    assert found.stained_area == 3
    assert found.score == pytest.approx(0.12)


def test_both_conditions_are_needed_for_zero(score):
    # area 0.3 (not above), mean 0.6 (above 0.17): not zero
    assert score((0.93,) * 3 + (0.1,) * 7, "+" * 3 + "-" * 7).score == pytest.approx(0.6)
    # area above, mean below: not zero either
    found = score((0.4,) * 4 + (0.1,) * 6, "-" * 10)
    assert found.stained_area == pytest.approx(0.4)
    assert found.score == pytest.approx(0.07)


def test_the_number_averaged_rounds_half_up(score):
    # A = 5: 0.3 x 5 = 1.5 -> 2; A = 15: 4.5 -> 5 (0.3 x 15 falls under 4.5 in floating point)
    assert score((0.93, 0.83) + (0.1,) * 3, "++---").mean_excess == pytest.approx(0.55)
    five = (0.83,) * 5 + (0.1,) * 10
    assert score(five, "+" * 5 + "-" * 10).mean_excess == pytest.approx(0.5)
    assert score((0.83,) * 4 + (0.1,) * 11, "+" * 4 + "-" * 11).mean_excess == pytest.approx(0.4)


def test_k_is_exact_for_every_count(score):
    for tumour in range(1, 200):
        exact = max(1, (6 * tumour + 10) // 20)  # floor(0.3 A + 0.5) in whole numbers
        every = score((0.83,) * tumour, "+" * tumour)
        assert every.mean_excess == pytest.approx(0.5), tumour
        one = score((0.83,) + (0.1,) * (tumour - 1), "+" + "-" * (tumour - 1))
        assert one.mean_excess == pytest.approx(0.5 / exact), tumour


def test_no_tumour(score):
    found = score((0.1, 0.2), "nn")
    assert (found.score, found.flag, found.level) == (0, "no_tumour", "0")


def test_chance_itself_is_not_stained(score):
    assert score((0.33,), "-").stained_area == 0


def test_the_range_ends_at_two_thirds(score):
    assert score((1.0,) * 4, "++++").score == pytest.approx(0.67)


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (0, "0"),
        (0.10, "0"),
        (0.1001, "1+"),
        (0.15, "1+"),
        (0.16, "2+/FISH-"),
        (0.20, "2+/FISH-"),
        (0.21, "2+/FISH+"),
        (0.25, "2+/FISH+"),
        (0.2501, "3+"),
        (0.67, "3+"),
    ],
)
def test_levels_at_the_cutoffs(value, level):
    assert scorer("probabilistic", LabelSettings(), SETTINGS).level(value) == level


def test_mean_is_the_mean(make):
    found = scorer("mean", LabelSettings()).score(make.bag(patches((0.9, 0.2, 0.1), "+-n")))
    assert found.score == pytest.approx(0.4)
    assert found.tumour_patches == 2
    assert found.level == ""


def test_step(tmp_path, make, her2pipe):
    (tmp_path / "batch").mkdir()
    make.encoding(tmp_path / "batch" / "S1.h5", patches((0.9, 0.8, 0.5, 0.2), "+++-"))
    make.encoding(tmp_path / "batch" / "S2.h5", [], status="excluded", reason="no tissue: none")
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text("slide\tpath\tpatient\nS1\tx\tP1\nS2\ty\tP2\n")
    out = tmp_path / "scores.tsv"
    assert her2pipe("score", tmp_path / "batch", out, "--sheet", sheet)[0] == 0
    first, second = read_table(out)
    assert (first["slide"], first["patient"], first["score"]) == ("S1", "P1", "0.570000")
    assert (first["level"], first["patches"], first["stained_area"]) == ("3+", "4", "0.750000")
    assert (second["score"], second["flag"], second["reason"]) == (
        "",
        "excluded",
        "no tissue: none",
    )


def test_a_folder_without_encodings_is_refused(tmp_path, her2pipe):
    (tmp_path / "empty").mkdir()
    code, stderr = her2pipe("score", tmp_path / "empty", tmp_path / "scores.tsv")
    assert (code, "holds no file .h5" in stderr) == (1, True)
    assert not (tmp_path / "scores.tsv").exists()


def test_probabilities_that_are_not_numbers_stop_the_step(tmp_path, make, her2pipe):
    make.encoding(tmp_path / "S1.h5", [[math.nan, 0.5, 0.5]])
    code, stderr = her2pipe("score", tmp_path / "S1.h5", tmp_path / "scores.tsv")
    assert code == 1
    assert "not numbers" in stderr
    assert len(stderr.splitlines()) == 3
    assert not (tmp_path / "scores.tsv").exists()


GRADED = ("--endpoint", "class", "--aggregate", "mean")


def test_scores_of_classes(tmp_path, make, her2pipe):
    """The mean of two tiles, (.6 .3 .1) and (.2 .7 .1): (.4 .5 .1), expected grade 0.35."""
    grades = ["1+", "2+", "3+"]
    (tmp_path / "batch").mkdir()
    make.encoding(tmp_path / "batch" / "S1.h5", [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]], classes=grades)
    make.encoding(tmp_path / "batch" / "S2.h5", [[0.1, 0.0, 0.9]], classes=grades)
    make.encoding(
        tmp_path / "batch" / "S3.h5",
        [],
        status="excluded",
        reason="no tissue: none",
        classes=grades,
    )
    out = tmp_path / "scores.tsv"
    assert her2pipe("score", tmp_path / "batch", out, *GRADED)[0] == 0
    first, second, third = read_table(out)
    assert list(first)[-4:] == ["p_1+", "p_2+", "p_3+", "margin"]
    assert [float(first[k]) for k in list(first)[-4:]] == pytest.approx([0.4, 0.5, 0.1, 0.1])
    assert (first["score"], first["call"], first["flag"]) == ("0.350000", "2+", "reflex")
    assert (first["level"], first["patches"]) == ("", "2")
    assert (second["call"], second["flag"]) == ("3+", "")
    assert (third["score"], third["call"], third["p_1+"], third["flag"]) == ("", "", "", "excluded")


def test_classes_need_an_encoder_of_the_study_and_the_mean(tmp_path, make, her2pipe):
    make.encoding(tmp_path / "S1.h5", [[0.6, 0.3, 0.1]])
    code, stderr = her2pipe("score", tmp_path / "S1.h5", tmp_path / "scores.tsv", *GRADED)
    assert code == 1
    assert "tells HER2-, HER2+, Non-tumour apart, the study 1+, 2+, 3+" in stderr
    code, stderr = her2pipe("score", tmp_path / "S1.h5", tmp_path / "s.tsv", "--endpoint", "class")
    assert code == 1
    assert "probabilistic aggregation scores HER2 status" in stderr
    assert len(stderr.splitlines()) == 3


def marked_encoding(path, p, reasons, names=("pen", "blur"), classes=CLASSES, **changes):
    """Write an encoding whose patches have artefacts: bit i of a reason is `names[i]`."""
    size = {"patch_size_level0": 64, "width_px0": 6400, "height_px0": 64}
    named = {"slide": path.stem, "classes": tuple(classes), "reason_names": names}
    metadata = EncodingMetadata(**named, **size, **changes)
    corners = [(64 * i, 0) for i in range(len(p))]
    features = np.zeros((len(p), 2))
    write_encoding(path, corners, np.array(p), features, metadata, reasons=np.array(reasons))
    return path


def test_a_slide_is_scored_with_and_without_its_marked_patches(tmp_path, her2pipe):
    """By all patches (.9 - .33) is the highest excess, without the pen (.5 - .33)."""
    p = [[0.1, 0.9, 0], [0.5, 0.5, 0], [0.8, 0.2, 0], [0.9, 0.1, 0]]
    files = [marked_encoding(tmp_path / "S1.h5", p, [1, 0, 2, 0])]
    files.append(marked_encoding(tmp_path / "S2.h5", p, [1, 1, 1, 3]))
    out, words = tmp_path / "scores.tsv", ["--sensitivity", "--tumour-patches-min", 0]
    assert her2pipe("score", *files, out, *words)[0] == 0
    first, second = read_table(out)
    assert [first[f"{key}_patches"] for key in ("all", "accepted")] == ["4", "2"]
    assert float(first["all_score"]) == float(first["score"]) == pytest.approx(0.57)
    assert float(first["accepted_score"]) == pytest.approx(0.17)
    assert (second["accepted_patches"], second["accepted_score"]) == ("0", "")
    # Where the study rejects pen, its score is the accepted one, and blur is not held against it.
    assert her2pipe("score", *files, out, *words, "--reject", "pen")[0] == 0
    first, second = read_table(out)
    assert float(first["accepted_score"]) == float(first["score"]) == pytest.approx(0.17)
    assert (first["all_score"], first["accepted_patches"]) == ("0.570000", "3")
    assert second["flag"] == "excluded"


def test_both_scores_of_classes_have_calls_and_probabilities(tmp_path, her2pipe):
    grades = ("1+", "2+", "3+")
    p = [[0.6, 0.3, 0.1], [0.0, 0.2, 0.8]]
    file = marked_encoding(tmp_path / "S1.h5", p, [0, 2], classes=grades)
    out = tmp_path / "scores.tsv"
    assert her2pipe("score", file, out, *GRADED, "--sensitivity")[0] == 0
    (row,) = read_table(out)
    assert (row["all_call"], row["accepted_call"]) == ("3+", "1+")
    assert [float(row[f"all_p_{name}"]) for name in grades] == pytest.approx([0.3, 0.25, 0.45])
    assert [float(row[f"accepted_p_{name}"]) for name in grades] == pytest.approx([0.6, 0.3, 0.1])


def test_a_slide_of_a_scale_far_from_the_encoders_is_flagged(tmp_path, her2pipe):
    known = {"model_mpp_min": 0.25, "model_mpp_max": 0.5}
    p = [[0.1, 0.9, 0.0]] * 6
    for name, mpp in (("near", 0.6), ("far", 28.97), ("unknown", None)):
        marked_encoding(tmp_path / f"{name}.h5", p, [0] * 6, mpp=mpp, **known)
    assert her2pipe("score", *tmp_path.glob("*.h5"), tmp_path / "scores.tsv")[0] == 0
    rows = {row["slide"]: row for row in read_table(tmp_path / "scores.tsv")}
    assert {name: row["flag"] for name, row in rows.items()} == {
        "near": "",
        "far": "scale",
        "unknown": "",
    }
    assert rows["far"]["reason"] == (
        "wrong scale: 28.97 um/px, the encoder was trained on 0.25 to 0.5"
    )
    assert len({row["score"] for row in rows.values()}) == 1


# --- rejected patches ----------------------------------------------------------------------------


def test_rejected_patches_are_left_out_and_counted(tmp_path, her2pipe):
    """The score is that of the other patches; a slide of none is excluded, with the reason."""

    def encoding(name, p, reasons=None):
        written = read_encoding(make_encoding(tmp_path / f"{name}.h5", p))
        names = () if reasons is None else ("blur", "pen")
        metadata = replace(written.metadata, reason_names=names)
        arrays = written.coords, written.probabilities, written.features
        write_encoding(tmp_path / f"{name}.h5", *arrays, metadata, reasons=reasons)
        return tmp_path / f"{name}.h5"

    p = patches((0.9, 0.8, 0.5, 0.2), "+++-")
    marked = np.array([0, 0, 0, 0, 2, 3], np.uint8)
    pen = np.concatenate([p, patches((0.1, 0.1), "nn")])
    files = [
        encoding("clean", p),
        encoding("marked", pen, marked),
        encoding("all", p, np.full(4, 2, np.uint8)),
    ]
    assert her2pipe("score", *files, tmp_path / "scores.tsv", "--reject", "pen")[0] == 0
    rows = {row["slide"]: row for row in read_table(tmp_path / "scores.tsv")}
    assert rows["marked"]["score"] == rows["clean"]["score"]
    assert rows["marked"]["patches"] == "4"
    assert rows["marked"]["reason"].startswith("2 of 6 patches rejected (pen 2)")
    assert (rows["all"]["flag"], rows["all"]["score"]) == ("excluded", "")
    assert rows["all"]["reason"] == "4 of 4 patches rejected (pen 4)"
    assert her2pipe("score", *files, tmp_path / "scores.tsv")[0] == 0
    rows = {row["slide"]: row for row in read_table(tmp_path / "scores.tsv")}
    assert rows["marked"]["patches"] == "6"
    assert "rejected" not in rows["marked"]["reason"]
