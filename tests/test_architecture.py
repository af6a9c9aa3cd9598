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
# A package may import from its own row or from rows above, and never in a circle.
LAYERS = [
    {"__init__", "errors", "files", "registry", "manifest"},
    {"config"},
    {"stats", "slides", "stain", "store"},
    {"cohorts", "models", "synthetic", "patch_features"},
    {"endpoints"},
    {"training", "aggregation"},
    {"evaluation", "plotting"},
    {"reporting"},
    {"workflow", "steps"},
    {"cli"},
]
HEAVY = {"torch", "torchvision", "timm", "tiatoolbox", "sklearn", "matplotlib", "pandas", "scipy",
         "scikit_posthocs", "skimage", "torch_geometric", "cv2", "shapely", "bokeh", "onnx",
         "onnxruntime"}  # fmt: skip


def layer(module: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if module in names)


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def modules_imported(path: Path):
    """Names of the modules of this package that a file imports, at its top or later."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "her2pipe":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in NAMES else node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name in NAMES)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in MODULES}


def package(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[1:] else "__init__"


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of a graph, if it has one."""
    done: set[str] = set()

    def walk(node, path):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph.get(node, ())):
            if found := walk(other, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := walk(node, []))), [])


def test_packages_form_a_dag():
    """No package imports from a row below, and neither packages nor modules form a circle."""
    packages: dict[str, set[str]] = {}
    modules: dict[str, set[str]] = {}
    wrong = []
    for name, path in NAMES.items():
        for other in modules_imported(path):
            here, there = package(name), package(other)
            if layer(there) > layer(here):
                wrong.append(f"{name} imports {other}")
            if here != there and there != "__init__":
                packages.setdefault(here, set()).add(there)
            if other != name:
                modules.setdefault(name, set()).add(other)
    assert not wrong
    assert not circle(packages)
    # assert not circle(modules)


def test_steps_never_import_each_other():
    steps = {n: p for n, p in NAMES.items() if n.startswith("her2pipe.steps.")}
    met = [(n, o) for n, p in steps.items() for o in modules_imported(p) if o in steps]
    assert met == []


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
    assert (PACKAGE / "steps" / f"{step}.py").exists()
    assert (ROOT / "tests" / "steps" / f"test_{step}.py").exists()
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


@pytest.mark.parametrize("module", ["cli", "cohorts.sheet", "config.load", *VERBS.values()])
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
        assert not names & {"openslide", "tiatoolbox"} or path.parent.name == "slides"


def test_nothing_is_unpickled_unchecked():
    for path in MODULES:
        text = path.read_text()
        if path.stem == "cifar100":  # a published archive, by its MD5, and only arrays out of it
            assert "def find_class(" in text
            assert "pickle.load" not in text
        else:
            assert "pickle" not in text
        assert "torch.load(" not in text or "weights_only=True" in text
