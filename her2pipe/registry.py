"""Registries: what can be added to her2pipe as one module that registers itself.

A registry knows the package its built-in modules lie in and imports them when it is first asked.
Packages of others add to any registry through the entry-point group `her2pipe.plugins`: each entry
point names a module to import, which registers what it brings.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from typing import Generic, NamedTuple, TypeVar

from her2pipe.errors import Her2Error

PLUGINS = "her2pipe.plugins"

T = TypeVar("T")


class Citation(NamedTuple):
    """A work that an item asks to cite: what it gives, its authors, where it appeared, its DOI."""

    what: str
    who: str
    where: str
    doi: str


class Registry(Generic[T]):
    """Things of one sort by name, such as aggregations or slide readers.

    Parameters
    ----------
    what : str
        What an item is, in the singular, for messages: `aggregation`.
    package : str
        Package whose modules register the built-in items: `her2pipe.aggregation`.

    Examples
    --------
    >>> registry = Registry("colour map", "her2pipe.errors")
    >>> registry.register("grey")(str.lower)("GREY")
    'grey'
    >>> registry.names()
    ('grey',)
    """

    def __init__(self, what: str, package: str):
        self.what, self._package = what, package
        self._items: dict[str, T] = {}
        self._complete = False

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that adds an item under a name.

        Raises
        ------
        Her2Error
            When another item has the name.
        """

        def add(item: T) -> T:
            other = self._items.get(name)
            if other is not None and _origin(other) != _origin(item):
                raise Her2Error(
                    f"two {self.what}s are called {name}",
                    f"{_origin(other)} and {_origin(item)}",
                    "rename one, or uninstall its package",
                )
            if getattr(item, "name", None) == "":
                item.name = name  # type: ignore[attr-defined]  # an item that asks for its name
            self._items[name] = item
            return item

        return add

    def names(self) -> tuple[str, ...]:
        """Return all names, built-in ones first, each group in order of its modules."""
        self._load()
        return tuple(self._items)

    def __getitem__(self, name: str) -> T:
        """Return the item of a name.

        Raises
        ------
        Her2Error
            When there is none; the message lists the nearest and all names.
        """
        self._load()
        if name in self._items:
            return self._items[name]
        near = difflib.get_close_matches(name, self._items, 1)
        raise Her2Error(
            f"unknown {self.what} {name}" + (f"; did you mean {near[0]}?" if near else ""),
            f"the name of the {self.what}",
            f"use one of: {', '.join(self._items)}",
        )

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._items

    def __iter__(self) -> Iterator[T]:
        self._load()
        return iter(tuple(self._items.values()))

    def _load(self) -> None:
        if self._complete:
            return
        self._complete = True  # modules that register may ask for others while they are imported
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(getattr(package, "__path__", ())):
            importlib.import_module(f"{self._package}.{module.name}")
        load_plugins()


@cache
def load_plugins() -> tuple[str, ...]:
    """Import the modules that installed packages name as plugins; return their names.

    Raises
    ------
    Her2Error
        When a plugin cannot be imported.
    """
    from importlib import metadata

    names = []
    for entry in sorted(metadata.entry_points(group=PLUGINS), key=lambda entry: entry.name):
        try:
            entry.load()
        except Exception as error:  # whatever is wrong with it, the user must know which it is
            raise Her2Error(
                f"the plugin {entry.name} cannot be imported: {error}",
                f"entry point {entry.value}",
                "repair or uninstall its package",
            ) from error
        names.append(entry.name)
    return tuple(names)


def _origin(item: object) -> str:
    return f"{getattr(item, '__module__', '')}.{getattr(item, '__qualname__', item)}"


# Registries whose names a study file gives are made here, below the settings that check them.
READERS: Registry = Registry("slide reader", "her2pipe.slides")
STAIN_METHODS: Registry = Registry("stain method", "her2pipe.stain")
TISSUE_METHODS: Registry = Registry("tissue method", "her2pipe.slides.tissue_masks")
DETECTORS: Registry = Registry("artefact detector", "her2pipe.quality.detectors")
# Functions that build a network, called as timm calls its own:
# build(pretrained=False, num_classes=1000, **options). 0 classes: no head.
ENCODERS: Registry = Registry("network", "her2pipe.models.networks")
# Published encoders by name, as `her2pipe.models.presets.preset.Preset` describes them.
PRESETS: Registry = Registry("preset", "her2pipe.models.presets")
