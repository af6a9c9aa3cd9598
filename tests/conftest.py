"""Shared fixtures: synthetic stores, encodings and models, made without slides."""

import os
from types import SimpleNamespace

import pytest
from small_study import finished, study  # noqa: F401 - fixtures of every test that runs the workflow
from stores import CLASSES, DATA, make_bag, make_encoding, make_model, make_store, stained
from training_sets import development, development_files  # noqa: F401

from her2pipe import deferred

os.environ.setdefault("OMP_NUM_THREADS", "1")
deferred.defer_compiler()  # as the command line does


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
