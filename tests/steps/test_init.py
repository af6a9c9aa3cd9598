"""`her2pipe init`: a folder that is a study at once, or once its sheets have lines."""

import os
import subprocess

import pytest

from her2pipe.config import load
from her2pipe.steps import init
from her2pipe.workflow.study import Study


def test_the_demo_is_a_valid_study_at_once(tmp_path, her2pipe, monkeypatch):
    folder = tmp_path / "my study"
    assert her2pipe("init", folder) == (0, "")
    monkeypatch.chdir(folder)
    ours = Study.load(load.read("study.yaml"), "study.yaml")
    shipped = load.load(init.studies()["demo"])
    assert ours.sheets == {name: f"sheets/{name}.tsv" for name in shipped.cohorts}
    sheets = {"cohorts": {name: {"sheet": path} for name, path in ours.sheets.items()}}
    plain = shipped.model_dump()
    for name, cohort in sheets["cohorts"].items():
        plain["cohorts"][name] |= cohort
    assert ours.settings.model_dump() == plain
    assert {path.name for path in folder.iterdir()} == {
        *("study.yaml", "sheets", "profiles", "schema.json", "Makefile")
    }
    outside = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}  # of `make test`
    make = subprocess.run(["make", "-n"], capture_output=True, text=True, check=True, env=outside)
    assert make.stdout == "her2pipe run study.yaml --cores all\n"
    assert len((folder / "Makefile").read_text().splitlines()) == 2


def test_every_study_can_be_begun(tmp_path, her2pipe):
    """Its settings are the shipped ones; sheets that are not shipped have the columns it needs."""
    wrong = []
    for name, file in init.studies().items():
        assert her2pipe("init", tmp_path / name, "--study", name)[0] == 0
        shipped, ours = load.load(file), load.load(tmp_path / name / "study.yaml")
        if ours.methods != shipped.methods or list(ours.cohorts) != list(shipped.cohorts):
            wrong.append(name)
        for cohort in ours.cohorts.values():
            if not (tmp_path / name / cohort.sheet).read_text().startswith("slide\tpath\tpatient"):
                wrong.append(f"{name}: {cohort.sheet}")
    assert wrong == []


def test_sheets_to_be_filled_have_the_columns_their_study_reads(tmp_path):
    columns = {}
    for name in ("tlpa", "ihc", "light"):
        (tmp_path / name).mkdir()
        empty = init.write(tmp_path / name, init.studies()[name])
        columns |= {f"{name}/{file}": (tmp_path / name / file).read_text() for file in empty}
    assert columns["tlpa/sheets/NAT.tsv"] == "slide\tpath\tpatient\tannotation\tihc\tfish\n"
    assert columns["ihc/sheets/A.tsv"] == "slide\tpath\tpatient\tannotation\tihc\n"
    assert columns["light/sheets/Warwick.tsv"] == "slide\tpath\tpatient\tihc\n"
    assert columns["light/sheets/BreakHis.tsv"] == "slide\tpath\tpatient\tclass\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [(["used"], "used is there already"), (["new", "--study", "mine"], "there is no study mine")],
)
def test_nothing_is_written_over(tmp_path, her2pipe, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "used").mkdir()
    (tmp_path / "used/study.yaml").write_text("mine")
    code, stderr = her2pipe("init", *words)
    assert (code, stderr.splitlines()[0]) == (1, f"her2pipe: {message}")
    assert [path.name for path in tmp_path.rglob("*")] == ["used", "study.yaml"]


def test_studies_are_listed_with_their_titles(capsys):
    init.run(type("Arguments", (), {"study": "list"}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(maxsplit=1) == ["demo", "Demo study of HER2 on synthetic slides"]
    assert len(lines) == len(init.studies())
