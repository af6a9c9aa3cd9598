"""Imports of others' packages that are put off until something needs them.

A library may import another for what is seldom called, and that import may take longer than all the
rest: torch, torchvision and timm import torch's compiler only to mark functions that it must leave
alone. `defer` puts a stand-in where that package would be, which knows what is asked at import.
Whatever else is asked of it, in this version of the library or another, imports the package, which
then answers itself: the start is slow again, and nothing else changes.

`quick_start` does for a job what makes its imports cheap, of whichever library.
"""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader
else:  # the module takes longer to import than all of this one
    Loader = object

COMPILER, UTILS = "torch._dynamo", "torch._dynamo.utils"
COLLECTED_OBJECTS = 10_000  # Python's own 700 has an import of torch collect garbage 500 times


@contextmanager
def quick_start() -> Iterator[None]:
    """Make the imports of a job cheap while it runs; its results stay the same.

    Garbage is collected less often, as imported modules make many objects and no garbage. Libraries
    are given no docstrings to rewrite, which is a third of the import of scipy.stats: as under
    `python -OO`, they find none. What no step uses of libraries waits until it is asked for.
    """
    collected, getdoc = gc.get_threshold(), inspect.getdoc
    gc.set_threshold(COLLECTED_OBJECTS)
    inspect.getdoc = _no_documentation
    defer_compiler()
    defer_fortran()
    defer_hub()
    leave_out("pandas", of="sklearn.utils.fixes")
    try:
        yield
    finally:
        inspect.getdoc = getdoc
        gc.set_threshold(*collected)


def _no_documentation(object: object) -> str | None:
    """Stand for `inspect.getdoc`, which returns None of what has no docstring."""
    return None


def defer(modules: Mapping[str, Mapping[str, Any]]) -> None:
    """Put stand-ins where a package and its modules would be, unless it was imported before.

    Parameters
    ----------
    modules : mapping
        By full name, the package first: what each stand-in knows, by the name of the attribute.
    """
    package = next(iter(modules))
    if package in sys.modules:
        return
    for name, known in modules.items():
        stand_in = _StandIn(name, package)
        vars(stand_in).update(known)
        sys.modules[name] = stand_in
        parent, _, child = name.rpartition(".")
        if parent in sys.modules:  # as an import would
            setattr(sys.modules[parent], child, stand_in)
    sys.meta_path.insert(0, _Finder(package))


def load(package: str) -> ModuleType:
    """Import a package, in place of its stand-ins if there are any."""
    if not is_loaded(package):
        sys.meta_path[:] = [
            finder
            for finder in sys.meta_path
            if not (isinstance(finder, _Finder) and finder.package == package)
        ]
        for name, module in list(sys.modules.items()):
            if isinstance(module, _StandIn) and module.package == package:
                del sys.modules[name]
    return importlib.import_module(package)


def is_loaded(package: str) -> bool:
    """Return whether the package itself was imported."""
    return package in sys.modules and not isinstance(sys.modules[package], _StandIn)


def function(package: str, module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports the package when it is called, and calls what is named."""

    def call(*args: Any, **kwargs: Any) -> Any:
        load(package)
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    return call


class _StandIn(ModuleType):
    """A module that imports its package for all that it does not know."""

    def __init__(self, name: str, package: str):
        super().__init__(name)
        self.package = package
        self.__spec__ = ModuleSpec(name, None, is_package=True)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by whoever looks over all modules, as `inspect` does
            raise AttributeError(name)
        load(self.package)
        return getattr(importlib.import_module(self.__name__), name)


class _Finder:
    """Imports the whole package before any of its modules that has no stand-in."""

    def __init__(self, package: str):
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module as the package has imported it, or None."""
        if not fullname.startswith(f"{self.package}."):
            return None
        load(self.package)
        if fullname in sys.modules:
            return importlib.util.spec_from_loader(fullname, _Imported(sys.modules[fullname]))
        return importlib.util.find_spec(fullname)


class _Imported(Loader):
    """Gives a module that was imported before."""

    def __init__(self, module: ModuleType):
        self._module, self._spec = module, module.__spec__
        module.__spec__ = None  # or else Python would import it again, by that

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it is."""
        module.__spec__ = self._spec


def defer_compiler() -> None:
    """Put off the import of torch's compiler until something is compiled.

    It takes longer than that of torch itself. torchvision asks at import for a function to call
    later, timm and torch's optimisers for marks on functions that must not be compiled.
    """
    defer(
        {
            COMPILER: {"disable": _disable, "graph_break": _graph_break},
            UTILS: {"is_compile_supported": function(COMPILER, UTILS, "is_compile_supported")},
        }
    )


def defer_fortran() -> None:
    """Put off the import of NumPy's interface to Fortran, which `from numpy import *` asks for."""
    import numpy  # noqa: F401  # every step needs it

    defer({"numpy.f2py": {}})


def defer_hub() -> None:
    """Put off the import of the hub's whole interface, of which timm asks for two names."""
    interface = "huggingface_hub.hf_api"
    names = ("HfApi", "model_info")
    defer({interface: {name: function(interface, interface, name) for name in names}})


def leave_out(package: str, of: str) -> None:
    """Have a module, when it is imported, find that a package it can do without is not installed.

    scikit-learn imports pandas to know whether it is there, which takes as long as itself. What is
    imported later finds the package as ever.
    """
    if of not in sys.modules and not any(
        isinstance(finder, _LeavingOut) and finder.module == of for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, _LeavingOut(of, package))


class _LeavingOut(Loader):
    """Imports a module once as if a package were not there, unless it was imported before."""

    def __init__(self, module: str, package: str):
        self.module, self.package = module, package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's spec, to be loaded by this."""
        if fullname != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec and spec.loader and self.package not in sys.modules:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Let Python make the module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code, to which the package is not there."""
        assert module.__spec__
        module.__spec__.loader = module.__loader__ = self._loader
        hidden: dict[str, Any] = sys.modules
        hidden[self.package] = None
        try:
            self._loader.exec_module(module)
        finally:
            del hidden[self.package]


def _disable(fn: Callable | None = None, recursive: bool = True, **options: Any) -> Callable:
    """Mark a function as one that is not compiled, from when anything can be."""
    if fn is None:
        return functools.partial(_disable, recursive=recursive, **options)

    @functools.cache
    def disabled() -> Callable:
        return load(COMPILER).disable(fn, recursive, **options)

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (disabled() if is_loaded(COMPILER) else fn)(*args, **kwargs)

    return call


def _graph_break(*args: Any, **kwargs: Any) -> None:
    """Break the graph that is being recorded: none is before the compiler is imported."""
    if is_loaded(COMPILER):
        load(COMPILER).graph_break(*args, **kwargs)
