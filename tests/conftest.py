"""Shared fixtures: synthetic stores, encodings and models, made without slides."""

import gc
import inspect
import os
import signal
from types import SimpleNamespace

import drawing
import process_server
import pytest
from cluster_study import local  # noqa: F401 - of every test that runs it on a cluster
from small_study import finished, study  # noqa: F401 - fixtures of every test that runs the workflow
from stores import CLASSES, DATA, make_bag, make_encoding, make_model, make_store, stained
from training_sets import development, development_files  # noqa: F401

from her2pipe.installation import deferred

os.environ.setdefault("OMP_NUM_THREADS", "1")
deferred.defer_compiler()  # as the command line does
# It compiles grammars of formats of which our schemas name none, for two seconds.
deferred.leave_out("rfc3987_syntax", of="jsonschema._format")
# It is there for power cuts, which no test sees, and takes milliseconds of waiting per file.
os.fsync = lambda file: None
# What a shell starts by `&` ignores it, and so would all that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
COLLECTED, DOCUMENTATION = gc.get_threshold(), inspect.getdoc
inspect.getdoc = deferred._no_documentation  # or scipy rewrites all of its own
gc.set_threshold(deferred.COLLECTED_OBJECTS)  # while tests are imported, as while a job is


def pytest_configure(config):
    """Start one process server for all processes of pytest-xdist."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        server = process_server.ProcessServer()
        os.environ[process_server.SHARED] = server.address
        config.add_cleanup(server.close)


def pytest_collection_finish(session):
    """Draw figures once; keep modules from garbage collections, a million objects each time."""
    if not session.config.option.collectonly:
        drawing.draw_svg_alone(looked_at)
        gc.collect()
        gc.freeze()
    gc.set_threshold(*COLLECTED)
    inspect.getdoc = DOCUMENTATION


looked_at = []  # the test at work, if it is marked `pictures`


@pytest.fixture(autouse=True)
def _looks_at_pictures(request):
    looked_at[:] = [request.node] if request.node.get_closest_marker("pictures") else []


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


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    """Mark as slow what needs a study that was run to its end."""
    for item in items:
        if "finished" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
