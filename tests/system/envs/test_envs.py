"""Environments: pinned as everywhere, enough for their rules, and reached by the package."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from her2pipe.config import STEPS
from her2pipe.files import read_table

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE)]
os.environ.setdefault("HER2PIPE_CONDA", "none")

import channel  # noqa: E402
import conda  # noqa: E402
from small_study import LOCALLY, STUDY, arguments, sheet_lines, write_study  # noqa: E402
from workflow_rules import rules  # noqa: E402

ENVS = sorted((ROOT / "envs").glob("*.yaml"))
# What is imported, by the name of its package where that differs.
PACKAGES = {
    "PIL": "pillow",
    "cv2": "opencv",
    "openslide": "openslide-python",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "torch": "pytorch",
    "yaml": "pyyaml",
}


def pins():
    text = (ROOT / "requirements.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.M))


def env_of(step):
    return (ROOT / "workflow" / rules()[step]["conda"]).resolve()


@pytest.mark.parametrize("path", ENVS, ids=lambda path: path.stem)
def test_versions_are_those_of_pip(path):
    channels, packages = conda.read(path)
    assert channels == ["conda-forge", "nodefaults"]
    assert packages.pop("python") == "3.11"
    for name, version in packages.items():
        pip = conda.PIP.get(name, [name])[0]
        pinned = pins()[pip]
        assert pinned == version or pinned.startswith(f"{version}."), f"{name}: pip has {pinned}"


def test_every_environment_has_rules():
    assert {env_of(step) for step in STEPS} == set(ENVS)


def test_what_a_step_imports_itself_is_listed():
    """Not what its packages might import: that is for the test that runs every rule."""
    missing = []
    for step in STEPS:
        _, packages = conda.read(env_of(step))
        libraries = set()
        for item in ast.walk(ast.parse((ROOT / f"her2pipe/steps/{step}.py").read_text())):
            if isinstance(item, ast.Import):
                libraries |= {alias.name.split(".")[0] for alias in item.names}
            elif isinstance(item, ast.ImportFrom):
                libraries.add(item.module.split(".")[0])
        foreign = libraries - set(sys.stdlib_module_names) - {"her2pipe", "__future__"}
        needed = {PACKAGES.get(name, name) for name in foreign}
        missing += [f"{step}: {name}" for name in sorted(needed - set(packages))]
    assert missing == []


def run(folder, *words, **environment):
    """Run the study in a folder in conda environments; no other python than theirs is in reach.

    Conda itself is installed beside the folder: it takes no space in its own path.
    """
    bin_ = folder / "bin"
    bin_.mkdir(exist_ok=True)
    (bin_ / "conda").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE}/conda.py" "$@"\n')
    (bin_ / "conda").chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if k != "HER2PIPE_CHANNEL"}
    variables = kept | {
        "PATH": f"{bin_}:/usr/bin:/bin",
        "HER2PIPE_CONDA": str(folder.parent / "conda"),
        **environment,
    }
    command = [sys.executable, "-m", *arguments(folder, *LOCALLY, *words)]
    command += ["--software-deployment-method", "conda"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=variables)


@pytest.fixture
def started(tmp_path):
    folder = tmp_path / "my study"
    study = STUDY | {"methods": {"TL-PA": {"encoder": "small"}}}
    write_study(folder, study, {"A": sheet_lines("A", 4), "B": sheet_lines("B", 2)})
    return folder


@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
def test_a_workflow_in_environments_of_a_channel(started):
    """Real solving, linking and activating; the packages themselves are stand-ins."""
    pytest.importorskip("rattler")
    wanted = {}
    for path in ENVS:
        _, packages = conda.read(path)
        assert all(wanted.get(name, v) == v for name, v in packages.items())
        wanted |= packages
    channel.write(started / "channel", wanted, sys.executable)
    scores, target = "results/score/TL-PA/B.tsv", "results/evaluate/TL-PA/B"
    place = {"HER2PIPE_CHANNEL": str(started / "channel")}
    done = run(started, target, **place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["slide"] for row in read_table(started / scores)] == ["B-1", "B-2"]
    environments = sorted((started / ".snakemake/conda").glob("*_/conda-meta"))
    assert len(environments) == 3  # slides, torch, stats
    for meta in environments:
        _, packages = conda.read(f"{meta.parent}.yaml")
        for name, version in packages.items():
            assert (meta.parent / "share/stand-in" / name).read_text() == f"{version}\n"
    again = run(started, target, **place)
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.envs
@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
def test_every_rule_runs_in_its_own_environment(started):
    """The environments' versions from the Python package index, and nothing else, do the work."""
    study = STUDY | {
        "methods": {"TL-mlp": STUDY["methods"]["TL-mlp"]},
        "explain": {"encoders": ["small"], "tiles": 1, "device": "cpu"},
        "deploy": {"encoders": ["small"], "peers": [], "check_patches": 8, "latency_runs": 5},
    }
    write_study(started, study, {"A": sheet_lines("A", 6), "B": sheet_lines("B", 2)})
    done = run(started)
    assert done.returncode == 0, done.stdout + done.stderr
    environments = sorted((started / ".snakemake/conda").glob("*_/pyvenv.cfg"))
    assert len(environments) == 3
    ran = set(re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, re.M))
    optional = {"pretrain", "draw"}  # the small study has none
    assert ran - {"all"} == set(STEPS) - optional
    places = {Path(f"{cfg.parent}.yaml").read_text(): cfg.parent for cfg in environments}
    for step in STEPS:
        python = places[env_of(step).read_text()]
        code = f"import her2pipe.steps.{step}; print(her2pipe.__file__)"
        said = subprocess.run(
            [python / "bin/python", "-c", code],
            capture_output=True,
            text=True,
            cwd=started,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert said.stdout.strip() == str(ROOT / "her2pipe/__init__.py"), said.stderr
