"""The house rules: which package may import which, one word per step, late imports."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

from workflow_rules import rules

from her2pipe.cli import VERBS
from her2pipe.config import STEPS, Config

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "her2pipe"
# A package may import from its own row or from rows above, and never in a circle.
LAYERS = [
    {
        *("her2pipe", "errors", "files", "registry", "manifest", "installation"),
        "job_server",
    },
    {"config"},
    {"stats", "quality", "slides", "stain", "store"},
    {"cohorts", "models", "synthetic", "patch_features"},
    {"endpoints"},
    {"training", "aggregation"},
    {"evaluation", "plotting"},
    {"bundles"},
    {"reporting"},
    {"workflow", "steps"},
    {"cli", "verbs", "parsers"},
]
HEAVY = {
    *("torch", "torchvision", "timm", "tiatoolbox", "sklearn", "matplotlib", "pandas", "scipy"),
    *("scikit_posthocs", "lifelines", "skimage", "cv2", "shapely", "bokeh", "onnx"),
    *("onnxruntime", "openpyxl"),
}
TOP = (ast.Assign, ast.AnnAssign)
LONG_FOLDERS = {"steps", "aggregation", "evaluation", "cohorts/importers", "slides"}
# Words of an earlier private language, for which the field has its own: target, training set, ...
PRIVATE_WORDS = {
    *("told", "telling", "tell", "tells", "foretell", "lesson", "lessons", "teach", "teaches"),
    *("teacher", "teachers", "teaching", "taught", "learnt", "facts", "remarks", "contest"),
    *("chapters", "blame", "roster"),
}
VAGUE_NAMES = {"about", "found", "own", "made", "given", "why_not", "unused", "account"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if path.stem != "_version"}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


@cache
def nodes(module: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(module)))


@cache
def imports(module: str) -> tuple[str, ...]:
    """Full names of what a module imports, at its top or later."""
    return tuple(imported(module))


def imported(module: str):
    """Names of `imports`, one after the other."""
    for node in nodes(module):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def own_imports(module: str) -> set[str]:
    """Names of the modules of this package that a module imports."""
    return {name for name in imports(module) if name in MODULES} - {module, "her2pipe"}


def package(module: str) -> str:
    """Package of a module, or the module itself where it lies at the top."""
    return module.split(".")[1] if "." in module else module


def layer(module: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if package(module) in names)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of a graph, if it has one."""
    done: set[str] = set()

    def walk(node, path):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph.get(node, ())):
            if circular := walk(other, [*path, node]):
                return circular
        done.add(node)
        return []

    return next((path for node in sorted(graph) if (path := walk(node, []))), [])


def test_packages_form_a_dag():
    """No package imports from a row below, and packages form no circle."""
    graph = defaultdict(set)
    upward = []
    for module in MODULES:
        for other in own_imports(module):
            graph[package(module)].add(package(other))
            if layer(other) > layer(module):
                upward.append(f"{module} imports {other}")
    assert upward == []
    assert circle({name: others - {name} for name, others in graph.items()}) == []


def test_modules_form_no_circle():
    assert circle({module: own_imports(module) for module in MODULES}) == []


def test_steps_never_import_each_other():
    pairs = [
        f"{module} imports {other}"
        for module in MODULES
        if package(module) == "steps"
        for other in own_imports(module)
        if package(other) == "steps" and other != "her2pipe.steps"
    ]
    assert pairs == []


def test_one_word():
    """A step's word is its module, verb, config section, rule file, rule, folders and test."""
    declared, broken = rules(), []
    assert set(declared) - {"all"} == set(STEPS)
    for step in STEPS:
        rule = declared[step]
        holds = {
            "verb": VERBS.get(step) == f"steps.{step}",
            "module": f"her2pipe.steps.{step}" in MODULES,
            "test": (ROOT / "tests" / "steps" / f"test_{step}.py").exists(),
            "config section": step in Config.model_fields,
            "rule file": rule["file"] == f"workflow/{step}.smk",
            "command": rule["shell"].startswith(f"her2pipe {step} "),
            "result folder": all(p.startswith(f"results/{step}") for p in rule["output"]),
            "log folder": all(p.startswith(f"logs/{step}") for p in rule["log"]),
            "benchmark folder": (rule["benchmark"] or "").startswith(f"benchmarks/{step}"),
        }
        broken += [f"{step}: {what}" for what, ok in holds.items() if not ok]
    assert broken == []


def test_rules_are_complete():
    """Each has its inputs, outputs, log, benchmark, environment, and resources that grow."""
    missing = []
    for step in STEPS:
        rule = rules()[step]
        needed = {"output", "log", "benchmark", "conda", "shell"}
        if step not in ("synthesise", "draw", "unpack"):  # a bundle counts by its digest
            needed.add("input")
        missing += [f"{step} has no {what}" for what in sorted(needed) if not rule[what]]
        for name in ("mem_mb", "runtime"):
            first, second = rule["resources"].get(name) or (0, 0)
            if not 0 < first < second:
                missing.append(f"{step}: {name} does not grow with the attempt")
    assert missing == []


def test_the_map_fits_a_screen():
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 64


LATE = """
import importlib, sys
heavy, seen = set({heavy!r}), set()
for name in {modules!r}:
    importlib.import_module(name)
    loaded = heavy & set(sys.modules) - seen
    seen |= loaded
    for library in sorted(loaded):
        print(name, "loads", library)
"""


def test_imports_are_late():
    """Importing a step, the command line or what declares settings loads no slow library."""
    light = {f"her2pipe.{name}" for name in ("cli", "cohorts.sheet", "config.load")}
    light |= {f"her2pipe.{module}" for module in VERBS.values()}
    light |= {name for name in MODULES if package(name) in ("config", "workflow")}
    code = LATE.format(heavy=sorted(HEAVY), modules=sorted(light))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == []


ASKED = """
import importlib, sys
from her2pipe import config
started = [name for name in sys.modules if name.startswith(("her2pipe.config.", "pydantic"))]
from her2pipe.config import LedgerSettings
others = [f"her2pipe.config.{name}" for name in ("slides", "training", "load")]
print(started, [name for name in others if name in sys.modules])
homes = {name: f"her2pipe.config.{module}" for name, module in config._MODULES.items()}
print(set(homes) ^ (set(config.__all__) - {"STEPS"}))
print([n for n in homes if getattr(config, n) is not getattr(importlib.import_module(homes[n]), n)])
from her2pipe.plotting import charts
of_pdf = ("matplotlib.backends.backend_pdf", "fontTools.subset")
print([name for name in of_pdf if name in sys.modules])
"""


def test_what_a_step_does_not_use_is_not_imported():
    """Settings of other steps, and what writes PDF."""
    run = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["[] []", "set()", "[]", "[]"]


def test_only_their_packages_know_hdf5_and_openslide():
    homes = {"h5py": "store", "openslide": "slides", "tiatoolbox": "slides"}
    strangers = [
        f"{module} imports {library}"
        for module in MODULES
        for library in {name.split(".")[0] for name in imports(module)} & set(homes)
        if package(module) != homes[library]
    ]
    assert strangers == []


def test_nothing_is_unpickled_unchecked():
    """One published archive is, by its MD5, and only arrays come out of it."""
    unsafe = []
    for module in MODULES:
        calls_torch = "torch.load" in MODULES[module].read_text()
        for node in nodes(module) if calls_torch else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("torch.load"):
                flags = {word.arg: ast.unparse(word.value) for word in node.keywords}
                if flags.get("weights_only") != "True":
                    unsafe.append(f"{module} line {node.lineno}")
        if module != "her2pipe.training.cifar100" and "pickle" in imports(module):
            unsafe.append(f"{module} imports pickle")
    assert unsafe == []
    archive = list(ast.walk(tree("her2pipe.training.cifar100")))
    calls = {ast.unparse(node.func) for node in archive if isinstance(node, ast.Call)}
    assert not calls & {"pickle.load", "pickle.loads"}
    assert "find_class" in {n.name for n in archive if isinstance(n, ast.FunctionDef)}


def test_folders_hold_3_to_14_modules():
    """But steps, aggregations, data sets and readers, of which each has its module."""
    sizes = {path.parent: 0 for path in MODULES.values()}
    for path in MODULES.values():
        sizes[path.parent] += path.name != "__init__.py"
    folders = {path.relative_to(PACKAGE).as_posix(): size for path, size in sizes.items()}
    assert {f: n for f, n in folders.items() if not 3 <= n <= 14 and f not in LONG_FOLDERS} == {}


def identifiers(module: str):
    """Names that a module gives to functions, classes, arguments, variables and attributes."""
    for node in nodes(module):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def test_private_words_do_not_come_back():
    private = [
        f"{module} line {line}: {name}"
        for module in MODULES
        for name, line in identifiers(module)
        if name in VAGUE_NAMES or PRIVATE_WORDS & set(re.findall("[a-z]+", name.lower()))
    ]
    assert private == []


def test_the_page_on_architecture_is_true():
    """Its table has every package, in an order they may be imported in; its files exist."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text[text.index("| package | holds |") : text.index("`tests/test_architecture.py`")]
    packages = [
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.M)
        for name in re.findall(r"`(\w+)`", row)
    ]
    layers = [layer(f"her2pipe.{name}") for name in packages]
    assert sorted(packages) == sorted({package(name) for name in MODULES} - {"her2pipe"})
    assert layers == sorted(layers)
    paths = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|smk|tsv|md))`", text))
    places = (ROOT, PACKAGE, PACKAGE / "aggregation")
    assert [p for p in sorted(paths) if not any((place / p).exists() for place in places)] == []


def test_only_tables_of_constants_are_laid_out_by_hand():
    """Matrices and tables at the top of a module; all else is the formatter's."""
    by_hand = []
    for module, path in MODULES.items():
        ends = {node.end_lineno for node in tree(module).body if isinstance(node, TOP)}
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if line.endswith("# fmt: skip") and number not in ends:
                by_hand.append(f"{module} line {number}")
    assert by_hand == []
