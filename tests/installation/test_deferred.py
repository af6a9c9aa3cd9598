"""Imports that are put off: what a stand-in knows costs nothing, all else is the package itself."""

import gc
import importlib
import importlib.util
import inspect
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from training_sets import SMALL

from her2pipe.installation import deferred

NUMBERS = count()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Name of a package of three modules, each of which notes that it was imported."""
    name = f"slow{next(NUMBERS)}"
    (tmp_path / name).mkdir()
    note = "import builtins\nbuiltins.imported = [*getattr(builtins, 'imported', ()), __name__]\n"
    files = {
        "__init__": f"from {name} import inner, other\nvalue = 1\n",
        "inner": "factor = 0.5\ndef half(x):\n    return x * factor\n",
        "other": "value = 2\n",
    }
    for module, text in files.items():
        (tmp_path / name / f"{module}.py").write_text(note + text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("builtins.imported", [], raising=False)
    yield name
    deferred.load(name)  # takes the finder away
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        del sys.modules[module]


def imported():
    import builtins

    return builtins.imported


def defer(name):
    half = deferred.function(name, f"{name}.inner", "half")
    deferred.defer({name: {"mark": len}, f"{name}.inner": {"half": half}})
    return half


def test_what_a_stand_in_knows_imports_nothing(package):
    half = defer(package)
    module = importlib.import_module(package)
    inner = importlib.import_module(f"{package}.inner")
    assert (module.mark, inner.half) == (len, half)
    assert not hasattr(module, "__file__")  # what `inspect` asks every module
    assert inspect.getmodule(defer) is sys.modules[__name__]
    assert importlib.util.find_spec(package).name == package
    assert imported() == []
    assert not deferred.is_loaded(package)


@pytest.mark.parametrize("ask", ["attribute", "attribute of a module", "module", "call"])
def test_anything_else_imports_the_package_once(package, ask):
    half = defer(package)
    if ask == "attribute":
        assert importlib.import_module(package).value == 1
    elif ask == "attribute of a module":
        assert importlib.import_module(f"{package}.inner").factor == 0.5
    elif ask == "module":
        assert importlib.import_module(f"{package}.other").value == 2
    else:
        assert half(4) == 2
    assert deferred.is_loaded(package)
    assert sorted(imported()) == [package, f"{package}.inner", f"{package}.other"]
    for name in ("inner", "other"):
        module = importlib.import_module(f"{package}.{name}")
        assert module is getattr(sys.modules[package], name)
        assert module.__spec__.origin.endswith(f"{name}.py")


def test_an_imported_package_is_left_alone(package):
    module = importlib.import_module(package)
    defer(package)
    assert importlib.import_module(package) is module
    assert deferred.is_loaded(package)


def test_a_quick_start_ends_with_the_job():
    """Libraries find no docstrings to rewrite, and Python collects less garbage, until then."""
    threshold = gc.get_threshold()
    with deferred.quick_start():
        assert inspect.getdoc(len) is None
        assert gc.get_threshold()[0] == deferred.COLLECTED_OBJECTS > threshold[0]
    assert inspect.getdoc(len).startswith("Return")
    assert gc.get_threshold() == threshold


def test_a_stand_in_is_an_attribute_of_its_parent(package):
    """`import package.module as name` asks the parent, and so does NumPy's `__getattr__`."""
    parent = importlib.import_module(package)
    name = f"{package}.later"
    Path(parent.__file__).with_name("later.py").write_text("value = 3\n")
    deferred.defer({name: {}})
    assert not deferred.is_loaded(name)
    assert parent.later.value == 3
    assert deferred.is_loaded(name)
    assert parent.later is sys.modules[name]


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_module_is_imported_without_what_it_can_do_without(tmp_path, monkeypatch, is_loaded):
    user, optional = f"user{next(NUMBERS)}", f"optional{next(NUMBERS)}"
    (tmp_path / f"{optional}.py").write_text("value = 3\n")
    ask = f"try:\n    import {optional} as found\nexcept ImportError:\n    found = None\n"
    (tmp_path / f"{user}.py").write_text(ask)
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    if is_loaded:
        importlib.import_module(optional)
    for _ in range(2):
        deferred.leave_out(optional, of=user)
    assert len(sys.meta_path) == len(finders) + 1
    module = importlib.import_module(user)
    assert (module.found is not None) == is_loaded
    assert sys.meta_path == finders
    assert importlib.import_module(optional).value == 3
    assert importlib.reload(module).found.value == 3  # as anything that is imported later
    assert module.__spec__.loader is module.__loader__
    for name in (user, optional):
        del sys.modules[name]


STEPS = """
import sys
import torch
from her2pipe import cli
from her2pipe.installation import deferred
store, model, out, *words = sys.argv[1:]
assert cli.main(words) == 0
assert cli.main(["encode", store, out, "--model", model]) == 0
assert not deferred.is_loaded("torch._dynamo"), "torch's compiler was imported"
assert "sympy" not in sys.modules
assert not deferred.is_loaded("numpy.f2py"), "NumPy's interface to Fortran was imported"
assert not deferred.is_loaded("huggingface_hub.hf_api"), "the hub's interface was imported"

@torch.compile(backend="eager")
def double(x):
    return 2 * x

assert double(torch.ones(2)).tolist() == [2, 2]
assert deferred.is_loaded("torch._dynamo")
x = torch.nn.Parameter(torch.ones(2))
optimiser = torch.optim.SGD([x], lr=1)
x.sum().backward()
optimiser.step()
assert x.tolist() == [0, 0]

import numpy
with deferred.quick_start():  # they bear it without docstrings
    import matplotlib.figure
    import scipy.stats
    import sklearn.metrics
assert "pandas" not in sys.modules, "scikit-learn imported pandas"
assert not deferred.is_loaded("numpy.f2py")
assert numpy.f2py.get_include()
assert deferred.is_loaded("numpy.f2py")
from huggingface_hub import HfApi
assert HfApi(user_agent="her2pipe").user_agent == "her2pipe"
assert deferred.is_loaded("huggingface_hub.hf_api")
"""


@pytest.mark.slow
def test_steps_leave_the_compiler_alone_that_works_when_asked(development, tmp_path):
    """It takes longer to import than torch: training and encoding need it not."""
    stores, sheet = development
    model = tmp_path / "model"
    words = ["train", *stores, model, "--sheet", sheet, *SMALL, "--max-epochs", "1"]
    words = [str(word) for word in (stores[0], model, tmp_path / "encoded", *words)]
    run = subprocess.run([sys.executable, "-c", STEPS, *words], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
