"""A small study of synthetic cohorts, through the workflow as a user runs it."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import yaml
from filelock import FileLock
from process_client import SNAKEMAKE
from process_server import shared

ROOT = Path(__file__).parents[2]
# On this machine: two jobs at a time, each on one thread; more would wait for each other.
LOCALLY = (
    *("--set-threads", "pretrain=1", "train=1", "encode=1", "fit=1", "explain=1", "deploy=1"),
    *("--cores", "2"),
)
STUDY = {
    "study": {"title": "Small study"},
    "cohorts": {
        "A": {"sheet": "sheets/A.tsv", "role": "development"},
        "B": {"sheet": "sheets/B.tsv", "role": "external"},
    },
    "synthesise": {"width_um": 260, "height_um": 220, "scanners": {"A": {"objective": 20}}},
    "tile": {"adaptive_area_px0": 6.3e6, "patch_px": 128},
    "train": {
        "max_epochs": 1,
        "batch_size": 16,
        "frozen": [],
        "device": "cpu",
        "fractions": {},
        "architecture": "test_resnet",
        "input_px": 64,
        "train_views": ["adaptive"],
    },
    "encoders": {"small": {}},
    "encode": {"device": "cpu", "batch_slides": 3},
    "methods": {
        "TL-PA": {"encoder": "small"},
        "TL-mean": {"encoder": "small", "aggregate": "mean"},
        "TL-mlp": {"encoder": "small", "aggregate": "mlp"},
    },
    "fit": {"folds": 2, "max_epochs": 2, "device": "cpu"},
}
BUNDLED = {"bundle": {"methods": ["TL-mlp"]}}  # in the first run alone, not after a change
DATE = r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?|\d{1,2} \w+ \d{4}"
STUDY_LEVEL = {(step, "") for step in ("preflight", "compare", "ledger", "report")}


def sheet_lines(name, n, fault=()):
    """Return the lines of a synthetic cohort's sheet, half of it positive."""
    lines = ["slide\tpath\tpatient\tannotation\ther2\tseed\tseverity\tfault"]
    for i in range(1, n + 1):
        slide, status = f"{name}-{i}", ["negative", "positive"][i % 2]
        base = f"results/synthesise/{name}/{slide}"
        annotation = f"{base}.{['xml', 'geojson'][i % 2]}"
        cells = [slide, f"{base}.svs", f"{name}-P{i}", annotation, status, str(i)]
        cells += ["4" if i % 2 else "0", dict(fault).get(i, "")]
        lines.append("\t".join(cells))
    return lines


def write_study(folder, study, sheets):
    """Write study.yaml and its sheets."""
    (folder / "sheets").mkdir(parents=True, exist_ok=True)
    for name, lines in sheets.items():
        (folder / "sheets" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "study.yaml").write_text(yaml.safe_dump(study))


def arguments(folder, *words):
    """Return the words that run Snakemake on the study of a folder."""
    command = [
        "snakemake",
        "--configfile",
        folder / "study.yaml",
        "--snakefile",
        ROOT / "Snakefile",
    ]
    return list(map(str, [*command, "--directory", folder, *words]))


def snakemake(folder, *words, code=SNAKEMAKE, **variables):
    """Run Snakemake on the study of a folder; returns the finished process with its output."""
    return shared().run(code, arguments(folder, *LOCALLY, *words), ROOT, **variables)


@contextmanager
def start(folder, *words):
    """Run Snakemake beside the test, in processes of its own, none of which outlives the test."""
    with (folder / "said.txt").open("w") as said:
        command = [sys.executable, "-m", *arguments(folder, *LOCALLY, *words)]
        run = subprocess.Popen(command, stdout=said, stderr=said, cwd=ROOT)
    try:
        yield run
    except BaseException:
        run.kill()
        end(in_folder(folder))
        raise
    finally:
        run.wait()


def in_folder(folder):
    """Return the processes that work in a folder."""
    every = psutil.process_iter(["cwd"])
    return [p for p in every if (p.info["cwd"] or "").startswith(str(folder))]


def end(processes):
    """Kill processes, of which each may end by itself meanwhile, and wait until they are gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=30)


def is_job(words, verb):
    """Return whether a process is the command of a step, or asks the server for it (`-c CODE`)."""
    return verb in (*words[2:3], *words[4:5]) and any("her2pipe" in word for word in words[1:4])


def job_of(run, verb):
    """Wait for a job of one step and return its process."""
    while run.poll() is None:
        for process in psutil.Process(run.pid).children(recursive=True):
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if is_job(words, verb):
                return process
        time.sleep(0.05)
    pytest.fail(f"no {verb} was seen")


def job_in(folder, verb, until):
    """Wait for a job of one step in a folder, and return its process; `until` ends the wait."""
    while not until():
        for process in in_folder(folder):
            with suppress(psutil.Error):
                words = process.cmdline()
                if is_job(words, verb):
                    return process
        time.sleep(0.05)
    pytest.fail(f"no {verb} was seen")


def planned(folder):
    """Return what a dry run would do: a counter of (rule, cohort)."""
    run = snakemake(folder, "--dry-run")
    assert run.returncode == 0, run.stderr
    text = run.stdout + run.stderr
    jobs = []
    for block in re.split(r"\n(?=\[)", text):
        rule = re.search(r"^(?:local)?rule (\w+):", block, re.M)
        if rule and rule[1] != "all":
            where = re.search(r"wildcards: .*?cohort=([^,\s]+)", block)
            jobs.append((rule[1], where[1] if where else ""))
    return Counter(jobs)


def compare(expected, actual, whole=True):
    """Assert that two runs gave equal files, but for dates and durations; or a part of them."""
    names = {
        path.relative_to(root).as_posix()
        for root in ((expected, actual) if whole else (actual,))
        for path in (root / "results").rglob("*")
        if path.is_file() and path.name != ".snakemake_timestamp"
    }
    assert not [name for name in names if os.path.basename(name).startswith(".")]
    for name in sorted(names - {"results/report/index.html"}):
        if "history" not in name and "timing" not in name:
            one, other = ((root / name).read_bytes() for root in (expected, actual))
            if name.startswith("results/manifest/"):
                # A run in another folder (`--directory`) writes the whole path of each sheet.
                one, other = (text.replace(f"{ROOT}/".encode(), b"") for text in (one, other))
            assert one == other, name
    if not whole:
        return
    pages = [(root / "results/report/index.html").read_text() for root in (expected, actual)]
    pages = [re.sub("<!-- timings.*?<!-- /timings -->", "", page, flags=re.S) for page in pages]
    one, other = (re.sub(DATE, "DATE", page).splitlines() for page in pages)
    assert one == other


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A small study run to its end, in a folder whose name holds a space; tests leave it as it is.

    It is made once, by whichever process of pytest-xdist comes first.
    """
    sheets = {
        "A": sheet_lines("A", 6),
        "B": sheet_lines("B", 5, {2: "blank", 3: "truncated"}.items()),
    }
    common = tmp_path_factory.getbasetemp()
    common = common.parent if "PYTEST_XDIST_WORKER" in os.environ else common
    folder, done = common / "finished" / "my study", common / "finished" / "done"
    with FileLock(common / "finished.lock"):
        if not done.exists():
            write_study(folder, STUDY | BUNDLED, sheets)
            run = snakemake(folder)
            assert run.returncode == 0, run.stdout + run.stderr
            done.touch()
    return folder, sheets


@pytest.fixture
def study(finished, tmp_path):
    """A copy of the finished study that a test may change."""
    folder = tmp_path / "my study"
    shutil.copytree(finished[0], folder, symlinks=True)
    return folder, {name: list(lines) for name, lines in finished[1].items()}
