"""Shared fixtures: synthetic stores, encodings and models, made without slides."""

import gc
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import process_server
import pytest
from small_study import finished, study  # noqa: F401 - fixtures of every test that runs the workflow
from stores import CLASSES, DATA, make_bag, make_encoding, make_model, make_store, stained
from training_sets import development, development_files  # noqa: F401

from her2pipe import deferred

os.environ.setdefault("OMP_NUM_THREADS", "1")
deferred.defer_compiler()  # as the command line does


def pytest_configure(config):
    """Start one process server for all processes of pytest-xdist."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        server = process_server.ProcessServer()
        os.environ[process_server.SHARED] = server.address
        config.add_cleanup(server.close)


def pytest_collection_finish():
    """Keep modules from garbage collections, which would look at a million objects each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def drawn_once(request, monkeypatch):
    """Draw figures once, not twice: beside an SVG, the PNG of the same figure has no pixels.

    Most tests run steps for their tables. Those marked `pictures` have figures as users have them.
    """
    style = sys.modules.get("her2pipe.plotting.style")
    if style is None or request.node.get_closest_marker("pictures"):
        return

    def save(figure, stem, formats=("png", "svg"), save=style.save):
        if {"png", "svg"} <= set(formats):
            Path(f"{stem}.png").write_bytes(b"\x89PNG")
            formats = [kind for kind in formats if kind != "png"]
        return save(figure, stem, formats)

    monkeypatch.setattr(style, "save", save)


@pytest.fixture
def data():
    """Folder of real slides and images; tests that need it are skipped without it."""
    if not DATA.is_dir():
        pytest.skip("no real data beside the project")
    return DATA


@pytest.fixture
def make():
    """Makers of small stores, encodings and models."""
    return SimpleNamespace(
        store=make_store,
        bag=make_bag,
        encoding=make_encoding,
        model=make_model,
        stained=stained,
        classes=CLASSES,
    )


@pytest.fixture
def her2pipe(capsys):
    """Run a command as a user types it; returns (exit code, its message on stderr)."""
    from her2pipe.cli import main

    def run(*words):
        code = main([str(word) for word in words])
        return code, capsys.readouterr().err

    return run
