"""Environments: pinned as everywhere, enough for their rules, and reached by the package."""

import ast
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
    "cv2": "opencv-python",
    "openslide": "openslide-python",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}
# Versions that conda-forge's public listings of linux-64 show (May 2026), the newest last.
CHANNEL = {
    "python": ["3.10.20", "3.11.0", "3.11.14", "3.11.15", "3.12.13", "3.13.13"],
    "pip": ["23.3.1", "24.0", "25.3", "26.0.1"],
    "libgl": ["1.7.0"],
    "libglib": ["2.78.4", "2.80.5", "2.86.4", "2.88.1"],
    "libxcb": ["1.13", "1.16", "1.17.0"],
}


def pins():
    text = (ROOT / "requirements.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.M))


def env_of(step):
    return (ROOT / "workflow" / rules()[step]["conda"]).resolve()


@pytest.mark.parametrize("path", ENVS, ids=lambda path: path.stem)
def test_what_pip_installs_is_what_the_tests_ran_with(path):
    """Every version is pinned as in requirements.txt, and nothing that these need is missing."""
    channels, packages, lines = conda.read(path)
    assert channels == ["conda-forge", "nodefaults"]
    assert [name.split()[0] for name in packages] == list(CHANNEL)
    installed = dict(line.split("==") for line in lines)
    assert installed == {name: pins().get(name) for name in installed}
    needed = set()
    for name in installed:
        try:
            requires = map(Requirement, metadata.requires(name) or [])
        except metadata.PackageNotFoundError:  # of another version of Python than this one
            continue
        here = {"extra": "", "python_version": "3.11", "python_full_version": "3.11.9"}
        needed |= {
            canonicalize_name(each.name)
            for each in requires
            if each.marker is None or each.marker.evaluate(here)
        }
    assert needed - set(installed) == set()


def test_every_environment_has_rules():
    assert {env_of(step) for step in STEPS} == set(ENVS)


def test_what_a_step_imports_itself_is_listed():
    """Not what its packages might import: that is for the test that runs every rule."""
    missing = []
    for step in STEPS:
        _, _, lines = conda.read(env_of(step))
        packages = [line.split("==")[0] for line in lines]
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


@pytest.mark.envs
@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
def test_a_workflow_in_environments_of_a_channel(started):
    """Real solving, linking and activating; the packages themselves are stand-ins."""
    pytest.importorskip("rattler")
    channel.write(started / "channel", CHANNEL, sys.executable)
    scores, target = "results/score/TL-PA/B.tsv", "results/evaluate/TL-PA/B"
    place = {"HER2PIPE_CHANNEL": str(started / "channel")}
    done = run(started, target, **place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["slide"] for row in read_table(started / scores)] == ["B-1", "B-2"]
    environments = sorted((started / ".snakemake/conda").glob("*_/conda-meta"))
    assert len(environments) == 3  # slides, torch, stats
    for meta in environments:
        linked = {path.name: path.read_text().strip() for path in meta.parent.glob("share/*/*")}
        assert linked.pop("python") == "3.11.15"
        assert linked == {name: CHANNEL[name][-1] for name in linked} != {}
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
    done = run(started, "--printshellcmds")  # which names every job, too
    assert done.returncode == 0, done.stdout + done.stderr
    environments = sorted((started / ".snakemake/conda").glob("*_/pyvenv.cfg"))
    assert len(environments) == 3
    ran = set(re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, re.M))
    optional = {"pretrain", "draw", "unpack", "bundle"}  # the small study has none
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
