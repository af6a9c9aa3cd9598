"""A wheel in an empty environment: a study from `init` to its page, with the same scores."""

import importlib.util
import os
import subprocess
import sys

import pytest
from small_study import LOCALLY, ROOT, snakemake

from her2pipe.files import read_table
from her2pipe.installation import location
from her2pipe.steps import init

# Not by its name, which a script of bench has as well.
spec = importlib.util.spec_from_file_location("tests_versions", ROOT / "tests/versions.py")
versions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(versions)

pytestmark = [pytest.mark.envs, pytest.mark.slow, pytest.mark.xdist_group("workflow")]
EXTRAS = "formats,deploy"


def call(*words, folder):
    """Run a command as in a new login: nothing of this environment is in reach."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    command = list(map(str, words))
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=kept | {"PATH": "/usr/bin:/bin"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment of the wheel, of another version where this machine has one."""
    folder = tmp_path_factory.mktemp("wheel")
    pins = ROOT / "requirements.txt"
    build = [versions.UV, "build", "-q", "--wheel", "--build-constraint", pins, "--out-dir", folder]
    subprocess.run(build, cwd=ROOT, check=True)
    (wheel,) = folder.glob("her2pipe-*.whl")
    others = map(versions.interpreter, ("3.13", "3.12"))
    base = next(filter(None, others), sys.executable)
    subprocess.run([versions.UV, "venv", "-q", "--python", base, folder / "env"], check=True)
    here = folder / "env/bin/python"
    install = [versions.UV, "pip", "install", "-q", "--python", here]
    subprocess.run([*install, "-c", pins, f"{wheel}[{EXTRAS}]"], check=True)
    return here


def test_a_wheel_runs_a_study_to_the_page_with_the_same_scores(python, tmp_path):
    """Outside any clone; scores and AUCs agree to the last digit with those of this Python."""
    her2pipe, threads = python.parent / "her2pipe", LOCALLY[:-2]
    call(her2pipe, "init", "first", "--study", "tiny", folder=tmp_path)
    said = call(
        her2pipe, "run", "first/study.yaml", "--cores", "2", "--", *threads, folder=tmp_path
    )
    assert "site-packages/her2pipe/project/Snakefile" in said
    theirs = tmp_path / "first/results"
    assert (theirs / "report/index.html").stat().st_size > 500_000
    assert {row["status"] for row in read_table(theirs / "ledger/ledger.tsv")} == {"scored"}
    ours = tmp_path / "second"
    ours.mkdir()
    assert init.write(ours, location.project() / "studies/tiny.yaml") == []
    done = snakemake(ours)
    assert done.returncode == 0, done.stdout + done.stderr
    assert versions.differences(ours / "results", theirs) == []
