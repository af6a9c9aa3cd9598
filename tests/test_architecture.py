"""The house rules: layers, words, late imports, no strangers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from her2pipe.cli import VERBS
from her2pipe.config import STEPS, Config

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "her2pipe"
MODULES = sorted(PACKAGE.rglob("*.py"))
# A module may import from its own row or from rows above; steps only from rows above.
LAYERS = [
    {"errors", "__init__"},
    {"config", "files"},
    {"settings", "teaching"},
    {"aggregate", "alexnet", "anatomy", "annotation", "augment", "calls", "captions", "cards",
     "cells", "chapters", "checkpoint", "cifar", "cohort", "deployed", "drawing", "duplicates",
     "evidence", "exports", "features", "findings", "flow", "gallery", "gradcam", "grades",
     "gradings", "graph", "imagesets", "immuno", "importers", "kinds", "labels", "learning",
     "light", "measures", "mosaic", "networks", "nuclei", "outcome", "overlays", "page", "panels",
     "photos", "pictures", "plots", "poolers", "portable", "pyramid", "readers", "references",
     "resample", "roster", "runs", "sample", "schedule", "slide", "stage", "stain", "stats",
     "store", "textures", "throughput", "tiff", "versus", "zoom"},
    {"density", "fingerprint", "learn", "lesson", "loader", "pairing"},
    {*STEPS, "prune", "status"},
    {"cli"},
]  # fmt: skip
HEAVY = {"torch", "torchvision", "timm", "tiatoolbox", "sklearn", "matplotlib", "pandas", "scipy",
         "scikit_posthocs", "skimage", "torch_geometric", "cv2", "shapely", "bokeh", "onnx",
         "onnxruntime"}  # fmt: skip


def layer(module: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if module in names)


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def own_imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("her2pipe"):
            inner = node.module.split(".")[1:]
            yield from [inner[0]] if inner else [a.name for a in node.names]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers(path):
    here = room(path)
    for name in own_imports(path):
        if name in ("__version__", here):
            continue
        assert layer(name) <= layer(here), f"{here} imports {name} from a higher layer"
        if here in STEPS:
            assert name not in STEPS, f"step {here} imports step {name}"


@pytest.mark.parametrize("step", STEPS)
def test_one_word(step):
    """A step's word is its module, verb, config section, rule file, rule, folders and test."""
    rule = (ROOT / "workflow" / f"{step}.smk").read_text()
    assert f"\nrule {step}:" in "\n" + rule
    assert rule.count("\nrule ") + rule.startswith("rule ") == 1
    for folder in ("logs", "benchmarks"):
        assert f'"{folder}/{step}' in rule
    assert f'"results/{step}' in rule
    assert f"her2pipe {step} " in rule
    assert f'include: "workflow/{step}.smk"' in (ROOT / "Snakefile").read_text()
    assert (PACKAGE / f"{step}.py").exists()
    assert (ROOT / "tests" / f"test_{step}.py").exists()
    assert step in Config.model_fields


@pytest.mark.parametrize("step", STEPS)
def test_rules_are_complete(step):
    rule = (ROOT / "workflow" / f"{step}.smk").read_text()
    wanted = ["output:", "log:", "benchmark:", "conda:", "threads:", "resources:", "shell:"]
    if step not in ("synthesise", "draw"):
        wanted.append("input:")
    for word in wanted:
        assert f"    {word}" in rule, f"rule {step} has no {word}"
    assert "mem_mb=growing(" in rule
    assert "runtime=growing(" in rule


def test_the_map_fits_a_screen():
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 60
    for name in ("running", "common", "inputs", "taught", "reported", "compared"):
        assert len((ROOT / "workflow" / f"{name}.smk").read_text().splitlines()) <= 150
    assert len((PACKAGE / "cli.py").read_text().splitlines()) <= 100


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_small(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("module", ["cli", "cohort", "settings", *VERBS.values()])
def test_imports_are_late(module):
    """Importing a step or the command line loads none of the slow libraries."""
    code = f"import sys, her2pipe.{module}; print(*{HEAVY!r} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_only_their_rooms_know_hdf5_and_openslide():
    for path in MODULES:
        names = {
            (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else a.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for a in node.names
        }
        assert "h5py" not in names or room(path) == "store"
        assert not names & {"openslide", "tiatoolbox"} or room(path) == "readers"


def test_nothing_is_unpickled_unchecked():
    for path in MODULES:
        text = path.read_text()
        if room(path) == "cifar":  # a published archive, by its MD5, and only arrays out of it
            assert "def find_class(" in text
            assert "pickle.load" not in text
        else:
            assert "pickle" not in text
        assert "torch.load(" not in text or "weights_only=True" in text
