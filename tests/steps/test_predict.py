"""`her2pipe predict`: the study it writes, and options it refuses; Snakemake is not called here."""

from pathlib import Path

import pytest
import yaml
from bundles import make_tiny_bundle

from her2pipe.cli import main
from her2pipe.config import TileSettings
from her2pipe.files import read_table, write_table
from her2pipe.workflow import launch

SETTINGS = {"tile": TileSettings(patch_px=192).model_dump(mode="json")}


@pytest.fixture
def calls(monkeypatch):
    """Commands that would run."""
    words = []
    monkeypatch.setattr(launch, "call", lambda command: words.append(command) or 0)
    return words


@pytest.fixture
def bundle(tmp_path):
    return make_tiny_bundle(tmp_path / "m", settings=SETTINGS, view="256um")


@pytest.fixture
def slides(tmp_path):
    folder = tmp_path / "new slides"
    (folder / "more").mkdir(parents=True)
    for name in ("a 1.svs", "more/b.tif", "more/notes.txt"):
        (folder / name).touch()
    return folder


def predict(*words):
    return main(["predict", *map(str, words)])


def study(folder):
    return yaml.safe_load((folder / "study.yaml").read_text())


def test_a_folder_becomes_a_study_of_one_cohort(calls, bundle, slides, tmp_path, capsys):
    assert predict(bundle, slides, tmp_path / "out", "--cores", "3") == 0
    assert study(tmp_path / "out") == {
        "study": {"title": "M on 2 slides"},
        "cohorts": {"slides": {"sheet": "slides.tsv", "role": "apply", "kind": "slides"}},
        "methods": {"M": {"bundle": str(bundle)}},
    }
    assert read_table(tmp_path / "out/slides.tsv") == [
        {"slide": "a_1", "path": str(slides / "a 1.svs"), "patient": "a_1"},
        {"slide": "b", "path": str(slides / "more/b.tif"), "patient": "b"},
    ]
    (command,) = calls
    assert command[command.index("--directory") + 1] == str(tmp_path / "out")
    assert command[command.index("--cores") + 1] == "3"
    assert "No scores yet" in capsys.readouterr().out


def test_again_is_the_same_and_other_settings_are_kept_apart(calls, bundle, slides, tmp_path):
    words = (bundle, slides / "a 1.svs", tmp_path / "out", "--device", "cpu", "--allow-mismatch")
    assert [predict(*words), predict(*words)] == [0, 0]
    written = study(tmp_path / "out")
    assert written["encode"] == {"device": "cpu"}
    assert written["compatibility"] == {"allow_mismatch": True}
    assert calls[0] == calls[1]


def test_rows_of_a_sheet_keep_patients_and_labels(calls, bundle, slides, tmp_path, monkeypatch):
    monkeypatch.chdir(slides)
    row = {"Slide": "X", "path": "a 1.svs", "patient": "P-1", "her2": "positive", "site": "Ulm"}
    write_table("sheet.tsv", tuple(row), [row])
    assert predict(bundle, "sheet.tsv", tmp_path / "out") == 0
    assert read_table(tmp_path / "out/slides.tsv") == [
        {
            "slide": "X",
            "path": str(slides / "a 1.svs"),
            "patient": "P-1",
            "her2": "positive",
            "site": "Ulm",
        }
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--view", "512"], "--view 512 would change what the method M was made for, which is"),
        (["--patch-px", "512"], "--patch-px 512 would change"),
        (["--chance", "0.5"], "--chance 0.5 would change"),
        (["--annotation-names", "x", "y"], "--annotation-names x y would change"),
    ],
)
def test_what_decides_a_score_cannot_be_given(
    calls, bundle, slides, tmp_path, capsys, words, message
):
    assert predict(bundle, slides, tmp_path / "out", *words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert message in lines[0]
    assert not calls
    assert not (tmp_path / "out").exists()


def test_the_bundles_own_values_may_be_said(calls, bundle, slides, tmp_path):
    words = ("--view", "256um", "--patch-px", "192", "--chance", "0.33")
    assert predict(bundle, slides, tmp_path / "out", *words) == 0
    assert len(calls) == 1


def test_mistakes_of_the_slides_are_found_before_anything_runs(
    calls, bundle, slides, tmp_path, capsys
):
    (slides / "b.svs").touch()
    (tmp_path / "own").mkdir()
    (tmp_path / "own/study.yaml").write_text("cohorts: {}\n")
    (tmp_path / "empty").mkdir()
    for words, message in (
        ((slides, tmp_path / "out"), "two slides are named b"),
        ((tmp_path / "none", tmp_path / "out"), "there is no "),
        ((tmp_path / "empty", tmp_path / "out"), "no slides in the folder"),
        ((slides / "a 1.svs", tmp_path / "own"), "the folder holds another study"),
    ):
        assert predict(bundle, *words) == 1
        assert message in capsys.readouterr().err
    assert not calls


def test_images_are_looked_for_where_the_bundle_is_of_images(calls, tmp_path):
    bundle = make_tiny_bundle(tmp_path / "m", kind="images", view="whole")
    (tmp_path / "i").mkdir()
    Path(tmp_path / "i/1.png").touch()
    assert predict(bundle, tmp_path / "i", tmp_path / "out") == 0
    assert study(tmp_path / "out")["cohorts"]["slides"]["kind"] == "images"
