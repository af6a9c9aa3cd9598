"""The workflow as a user runs it: lint, dry runs, a small study end to end, and what reruns."""

import json
import os
import re
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from manual import unlisted_columns
from process_client import SNAKEMAKE
from process_server import shared
from small_study import (
    ROOT,
    STUDY,
    STUDY_LEVEL,
    job_in,
    planned,
    sheet_lines,
    snakemake,
    write_study,
)

from her2pipe.cohorts import sheet
from her2pipe.cohorts.split import batch_count, batch_of
from her2pipe.config import load
from her2pipe.files import read_table

pytestmark = pytest.mark.xdist_group("workflow")


def test_lint():
    run = shared().run(SNAKEMAKE, ["snakemake", "--lint"], ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def demo_plan():
    """Text of the dry run of the whole demo, with the commands."""
    words = ["snakemake", "--cores", "2", "--dry-run", "--forceall", "--printshellcmds"]
    run = shared().run(SNAKEMAKE, words, ROOT)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def test_an_upgrade_calls_each_step_as_before(demo_plan):
    """A command that differs reruns its step in every study, though no result does.

    Where results change, the step's `algorithm` rises, and with it the command; where the demo's
    settings change, so may this. Then write the file anew: `HER2PIPE_GOLDEN=write pytest
    tests/system/test_workflow.py -k upgrade`.
    """
    commands: dict[str, str] = {}
    for step, words in re.findall(r"Shell command: her2pipe (\w+) (.*)", demo_plan):
        commands[step] = min(words, commands.get(step, words))
    path = Path(__file__).parent / "golden" / "commands.json"
    if os.environ.get("HER2PIPE_GOLDEN") == "write":
        path.write_text(json.dumps(commands, indent=1, sort_keys=True) + "\n")
    assert commands == json.loads(path.read_text())


def test_the_demo_plans_every_job_once(demo_plan):
    counted = dict(re.findall(r"^(\w+) +(\d+)$", demo_plan, re.M))
    study = load.load(ROOT / "config.yaml")
    rows = {n: sheet.load(ROOT / c.sheet, check_files=False) for n, c in study.cohorts.items()}
    slides = sum(map(len, rows.values()))
    encoder = study.encoders["swin-t"]
    batches = sum(
        len({batch_of(r.slide, n) for r in part})
        for part in rows.values()
        for n in [batch_count(len(part), study.encode.batch_slides)]
    )
    scores = 8 * len(rows) + 2  # the linear probe scores two cohorts
    expected = {
        "synthesise": slides,
        "tile": slides + len(rows["A"]) * len(encoder.train_views),
        "pretrain": 1,
        "train": len(study.encoders),
        # One pass serves methods that share an encoder; that of the linear probe is of two cohorts.
        "encode": (len(study.encoders) - 1) * batches + 2,
        "fit": 8,  # all but TL-PA: Farahmand's is a threshold
        "quality": len(rows),
        "score": scores,
        "evaluate": scores,
        "describe": len(study.describe.cohorts),
        "heatmap": batches,
        "compare": 1,
        "ledger": 1,
        "report": 1,
    }
    assert {step: int(counted[step]) for step in expected} == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile": {"patchpx": 3}}, "unknown key patchpx"),
        (
            {"cohorts": {"A": {"sheet": "none.tsv", "role": "development"}}},
            "none.tsv does not exist",
        ),
    ],
)
def test_a_mistake_in_the_study_is_three_lines(tmp_path, change, message):
    write_study(tmp_path, STUDY | change, {"A": sheet_lines("A", 4), "B": sheet_lines("B", 4)})
    run = snakemake(tmp_path, "--dry-run")
    assert run.returncode == 1
    text = run.stdout + run.stderr
    assert message in text
    assert "Traceback" not in text
    assert 'File "' not in text  # no stack of our own code
    lines = text[text.index("her2pipe: ") :].splitlines()[:3]
    assert [line[:8] for line in lines] == ["her2pipe", "  where:", "  fix:  "]


def test_mistakes_of_all_sheets_come_together(tmp_path):
    sheets = {"A": sheet_lines("A", 4), "B": sheet_lines("B", 4)}
    sheets["A"][2] = sheets["A"][2].replace("positive", "perhaps").replace("negative", "perhaps")
    sheets["B"][3] = sheets["B"][3].replace("results/synthesise", "nowhere")
    write_study(tmp_path, STUDY, sheets)
    run = snakemake(tmp_path, "--dry-run")
    text = run.stdout + run.stderr
    assert "A.tsv line 3, column her2" in text
    assert "B.tsv line 4, column path" in text
    assert "B.tsv line 4, column annotation" in text


def test_encoders_share_a_pre_training_and_frozen_ones_tile_their_own_view_only(tmp_path):
    study = STUDY | {
        "pretrain": {"images": "synthetic", "device": "cpu", "architecture": "test_resnet"},
        "pretrainings": {"shapes": {}, "idle": {}},
        "encoders": {
            "one": {"pretrain": "shapes"},
            "two": {"pretrain": "shapes", "max_epochs": 2},
            "bare": {"task": "none", "pretrain": "shapes", "view": "96", "features": "layer3"},
        },
        "methods": {"M1": {"encoder": "one"}, "M2": {"encoder": "two"}},
    }
    write_study(tmp_path, study, {"A": sheet_lines("A", 4), "B": sheet_lines("B", 4)})
    assert planned(tmp_path)["pretrain", ""] == 1
    run = snakemake(tmp_path, "--dry-run", "--printshellcmds", "results/train/bare")
    assert run.returncode == 0, run.stderr
    text = run.stdout + run.stderr
    assert "--features layer3" in text
    assert "--weights results/pretrain/shapes" in text
    assert set(re.findall(r"results/tile/(\w+)/A/", text)) == {"96"}


def test_an_encoder_of_dab_density_reads_pairs(tmp_path):
    study = STUDY | {
        "encoders": {"small": {}, "dab": {"task": "density", "pairs": "my pairs"}},
        "methods": {
            "TL-PA": {"encoder": "small"},
            "DAB": {"encoder": "dab", "aggregate": "slidegraph"},
        },
    }
    write_study(tmp_path, study, {"A": sheet_lines("A", 4), "B": sheet_lines("B", 4)})
    run = snakemake(tmp_path, "--dry-run")
    assert run.returncode != 0
    assert "the folder of pairs my pairs does not exist" in run.stdout + run.stderr
    for side in ("HE", "IHC"):
        (tmp_path / "my pairs" / side / "train").mkdir(parents=True)
    run = snakemake(tmp_path, "--dry-run", "--printshellcmds", "results/train/dab")
    assert run.returncode == 0, run.stderr
    text = run.stdout + run.stderr
    assert "--pairs 'my pairs'" in text
    assert set(re.findall(r"results/tile/(\w+)/A/", text)) == {"adaptive"}  # for its colours


def test_images_that_are_not_there_are_reported(tmp_path):
    study = STUDY | {
        "pretrain": {"architecture": "test_resnet"},
        "pretrainings": {"cifar": {}},
        "encoders": {"small": {"pretrain": "cifar"}},
    }
    write_study(tmp_path, study, {"A": sheet_lines("A", 4), "B": sheet_lines("B", 4)})
    run = snakemake(tmp_path, "--dry-run")
    assert run.returncode == 1
    text = run.stdout + run.stderr
    lines = text[text.index("her2pipe: ") :].splitlines()[:3]
    assert lines[0].endswith("the archive cifar-100-python.tar.gz does not exist")
    assert "key pretrainings.cifar.images" in lines[1]
    assert "or the folder cifar-100-python with its files train and test" in lines[2]


@pytest.mark.slow
def test_end_to_end(finished):
    folder, sheets = finished
    ledger = read_table(folder / "results/ledger/ledger.tsv")
    assert [r["slide"] for r in ledger] == [
        line.split("\t")[0] for lines in sheets.values() for line in lines[1:]
    ]
    excluded = {r["slide"]: r["reason"] for r in ledger if r["status"] == "excluded"}
    assert set(excluded) == {"B-2", "B-3"}
    assert excluded["B-2"].startswith("no tissue")
    assert excluded["B-3"].startswith("unreadable")
    methods = read_table(folder / "results/compare/methods.tsv")
    assert {(r["method"], r["cohort"]) for r in methods} == {
        (m, c) for m in STUDY["methods"] for c in "AB"
    }
    page = (folder / "results/report/index.html").read_text()
    assert "Small study" in page
    assert excluded["B-3"].split(":")[0] in page
    for kind in ("png", "geojson", "db"):
        maps = (folder / "results/heatmap/TL-PA/B").glob(f"*/*.{kind}")
        assert {p.stem for p in maps} == {"B-1", "B-4", "B-5"}
    for name in "AB":
        described = json.loads((folder / f"results/describe/small/{name}/about.json").read_text())
        assert described["cohort"] == name
        assert described["slides"] == {"A": 6, "B": 3}[name]
    for name in ("synthesise", "tile", "train", "encode", "fit", "score", "evaluate"):
        assert (folder / "benchmarks" / name).is_dir()
    assert not list((folder / "results").rglob("*.part"))


@pytest.mark.slow
def test_again_there_is_nothing_to_be_done(study):
    run = snakemake(study[0])
    assert run.returncode == 0
    assert "Nothing to be done" in run.stdout + run.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"score": {"chance": 0.4}}, {"score", "evaluate", "compare", "ledger", "report"}),
        (
            {"fit": STUDY["fit"] | {"patience": 3}},
            {"fit", "score", "evaluate", "compare", "ledger", "report"},
        ),
        ({"evaluate": {"confidence": 0.9}}, {"evaluate", "compare", "report"}),
        ({"heatmap": {"opacity": 0.3}}, {"heatmap", "report"}),
        ({"describe": {"glcm_levels": 16}}, {"describe", "report"}),
        ({"study": {"title": "Another"}}, {"report"}),
    ],
)
def test_a_changed_setting_reruns_its_step_and_what_follows(study, change, steps):
    folder, sheets = study
    write_study(folder, STUDY | change, sheets)
    assert {rule for rule, _ in planned(folder)} == steps


@pytest.mark.slow
def test_a_new_cohort_runs_only_itself(study):
    folder, sheets = study
    cohorts = STUDY["cohorts"] | {"E": {"sheet": "sheets/E.tsv", "role": "external"}}
    write_study(folder, STUDY | {"cohorts": cohorts}, sheets | {"E": sheet_lines("E", 3)})
    jobs = planned(folder)
    assert set(jobs) - STUDY_LEVEL == {
        (step, "E")
        for step in (
            *("synthesise", "tile", "encode", "quality", "score", "evaluate"),
            *("describe", "heatmap"),
        )
    }
    assert jobs["synthesise", "E"] == jobs["tile", "E"] == 3


@pytest.mark.slow
def test_a_new_row_runs_its_slide_its_batch_and_its_cohort(study):
    folder, sheets = study
    sheets["B"] = sheet_lines("B", 6, {2: "blank", 3: "truncated"}.items())
    write_study(folder, STUDY, sheets)
    assert batch_count(5, 3) == batch_count(6, 3) == 2
    assert planned(folder) == Counter(
        {
            ("synthesise", "B"): 1,
            ("tile", "B"): 1,
            ("encode", "B"): 1,
            ("quality", "B"): 1,
            ("score", "B"): 3,
            ("evaluate", "B"): 3,
            ("describe", "B"): 1,
            ("heatmap", "B"): 1,
        }
        | dict.fromkeys(STUDY_LEVEL, 1)
    )


@pytest.mark.slow
def test_a_corrected_label_reruns_statistics_only(study):
    folder, sheets = study
    sheets["B"][1] = sheets["B"][1].replace("positive", "negative")
    write_study(folder, STUDY, sheets)
    assert planned(folder) == Counter({("evaluate", "B"): 3, ("compare", ""): 1, ("report", ""): 1})


@pytest.mark.slow
@pytest.mark.slow
def test_the_manual_lists_every_column(finished):
    folder, _ = finished
    assert unlisted_columns(folder / "results") == []


def test_a_models_rule_scores_with_what_was_fitted(finished):
    folder, _ = finished
    assert {p.name for p in (folder / "results/fit").iterdir()} == {"TL-mean", "TL-mlp"}
    for method in ("TL-mean", "TL-mlp"):
        rows = read_table(folder / f"results/score/{method}/B.tsv")
        assert {r["call"] for r in rows if r["flag"] != "excluded"} <= {"HER2+", "HER2-"}
        assert [r["slide"] for r in rows if r["flag"] == "excluded"] == ["B-2", "B-3"]


@pytest.mark.slow
def test_a_removed_row_keeps_the_others(study):
    folder, sheets = study
    del sheets["B"][5]
    write_study(folder, STUDY, sheets)
    jobs = planned(folder)
    assert ("tile", "B") not in jobs
    assert {c for _, c in jobs} <= {"B", ""}


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on(study):
    """Snakemake deletes a killed job's output before it starts it again; the state is beside it."""
    folder, sheets = study
    write_study(folder, STUDY | {"train": STUDY["train"] | {"max_epochs": 4, "save_s": 0}}, sheets)
    kept = folder / "results/train/.small.resume/checkpoint.pt"
    words = ("--cores", "1", "--retries", "1", "results/train/small")
    with ThreadPoolExecutor() as beside:
        run = beside.submit(snakemake, folder, *words)
        job = job_in(folder, "train", until=run.done)
        while not kept.exists() and job.is_running():
            time.sleep(0.01)
        job.kill()
        done = run.result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming after epoch" in (folder / "logs/train/small.log").read_text()
    assert len(read_table(folder / "results/train/small/history.tsv")) == 4
    assert not kept.parent.exists()


@pytest.mark.slow
def test_a_lost_result_comes_back(study):
    folder, _ = study
    before = (folder / "results/score/TL-PA/B.tsv").read_bytes()
    (folder / "results/score/TL-PA/B.tsv").unlink()
    assert snakemake(folder, "results/score/TL-PA/B.tsv").returncode == 0
    assert (folder / "results/score/TL-PA/B.tsv").read_bytes() == before


@pytest.mark.slow
def test_snakemakes_own_report(study):
    """Main outputs are in it under their categories, with captions."""
    folder = study[0]
    run = snakemake(folder, "--report", str(folder / "own.zip"))
    assert run.returncode == 0, run.stdout + run.stderr
    with zipfile.ZipFile(folder / "own.zip") as packed:
        names = {Path(name).name for name in packed.namelist()}
        page = next(packed.read(n).decode() for n in packed.namelist() if n.endswith("report.html"))
    assert {"index.html", "table2.tsv", "methods.tsv", "ledger.tsv", "B-1.png"} <= names
    for text in (
        "Study page",
        "Methods compared",
        "Cohorts and slides",
        "Heat maps",
        "Every slide of every sheet",
        "one page that opens from disk",
    ):
        assert text in page
