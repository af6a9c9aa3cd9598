"""One Python that has imported everything, whose forks run Snakemake and the jobs of its rules.

A small study starts Python fifty times, and most of these processes take longer to import torch
and the like than to work. A fork of a process that did so once has nothing left to import. All
else is as in a user's run: Snakemake forms the shell commands, each job is a process of its own
with its own arguments, folder, environment, streams and exit code.
"""

import atexit
import gc
import importlib
import json
import logging
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path

import drawing
import process_client

from her2pipe.job_server.client import OFF, SERVER

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SHARED = "HER2PIPE_TESTS_SERVER"  # names the server of all processes of pytest-xdist
# What Snakemake and the steps import inside functions.
SNAKEMAKE = (
    *("cli", "storage", "report.html_reporter", "executors.local", "executors.dryrun"),
    *("executors.touch", "linting.rules", "linting.snakefiles", "profiles", "sourcecache"),
)
LIBRARIES = (
    *("bokeh.plotting", "bokeh.resources", "cv2", "h5py", "imagecodecs", "jinja2", "openslide"),
    *("matplotlib.backends.backend_agg", "matplotlib.figure", "pandas", "safetensors.torch"),
    *("scipy.fft", "scipy.optimize", "scipy.spatial", "scipy.special", "scipy.stats", "shapely"),
    *("simplejpeg", "skimage.feature", "skimage.filters", "skimage.segmentation", "tifffile"),
    *("sklearn.linear_model", "sklearn.metrics", "statsmodels.stats.multitest", "timm", "torch"),
)


class Client:
    """Runs code in forks of a server.

    Parameters
    ----------
    address : str
        Path of the server's socket.
    """

    def __init__(self, address):
        self.address = address

    def run(self, code, words, folder, **variables):
        """Run code in a fork, and as forks the jobs it starts; return the finished process.

        Parameters
        ----------
        code : str
            As of `process_client`.
        words : list
            Becomes sys.argv.
        folder : Path
            Working directory.
        **variables : str
            More of the environment, as `drawing.SVG_ALONE`.
        """
        environment = _environment(HERE / "forked") | {"HER2PIPE_PROCESS_SERVER": self.address}
        environment |= variables
        with (
            open(os.devnull) as nothing,
            tempfile.TemporaryFile("w+") as output,
            tempfile.TemporaryFile("w+") as errors,
        ):
            streams = [file.fileno() for file in (nothing, output, errors)]
            ended = process_client.run(self.address, code, words, streams, environment, folder)
            for file in (output, errors):
                file.seek(0)
            return subprocess.CompletedProcess(words, ended, output.read(), errors.read())


class ProcessServer(Client):
    """A server that runs until it is closed, or the process that started it ends.

    Parameters
    ----------
    import_path : str or Path, optional
        Folder of further packages, which the server imports, too.
    """

    def __init__(self, import_path=""):
        self._folder = tempfile.TemporaryDirectory(prefix="her2pipe-")
        super().__init__(f"{self._folder.name}/socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                cwd=ROOT,
                env=_environment(import_path),
            )

    def close(self):
        """End the server."""
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


@cache
def shared():
    """Return the server of all tests, started when it is first asked for.

    Processes of pytest-xdist use the one of the process that started them (`conftest.py`).
    """
    if SHARED in os.environ:
        return Client(os.environ[SHARED])
    server = ProcessServer()
    atexit.register(server.close)
    return server


def _environment(import_path):
    """Return the environment of this process with a folder to import from."""
    path = [str(import_path), os.environ.get("PYTHONPATH", "")]
    # Jobs are forks of this server; a second one, of the run itself, would have nothing to do.
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path)), SERVER: OFF}


def _serve(listener):
    """Fork for each request; when standard input is closed, end all forks and return."""
    sys.path.append(str(HERE / "forked"))  # what forks start may find modules where they do
    prepared, clients = set(), {}  # connection of each fork that runs
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                for child in clients:
                    os.kill(child, signal.SIGKILL)
                return
            if key.fileobj is listener:
                connection, _ = listener.accept()
                request, streams = _receive(connection)
                for package, prepare in PREPARE.items():
                    if package in request["code"] and package not in prepared:
                        prepare()
                        prepared.add(package)
                        gc.collect()
                        gc.freeze()  # or forks would copy its pages when they collect garbage
                if not (child := os.fork()):
                    selector.close()
                    listener.close()
                    connection.close()
                    _work(request, streams)
                for stream in streams:
                    os.close(stream)
                clients[child] = connection
                selector.register(os.pidfd_open(child), selectors.EVENT_READ, child)
                selector.register(connection, selectors.EVENT_READ, child)
            elif isinstance(key.fileobj, int):  # a fork has ended
                selector.unregister(key.fileobj)
                os.close(key.fileobj)
                code = os.waitstatus_to_exitcode(os.waitpid(key.data, 0)[1])
                connection = clients.pop(key.data)
                with suppress(KeyError):
                    selector.unregister(connection)
                with suppress(BrokenPipeError), connection:
                    connection.sendall(code.to_bytes(4, "big", signed=True))
            elif key.data in clients:  # who asked has been killed
                selector.unregister(key.fileobj)
                os.kill(key.data, signal.SIGKILL)


def _prepare_workflow():
    """Do what every run of Snakemake does before it reads a study, and forks need not repeat.

    It looks for plugins, and pydantic completes the models of settings when they are first used.
    """
    _load(["smart_open", *(f"snakemake.{name}" for name in SNAKEMAKE)])
    _load(_modules("steps", "workflow"))
    from snakemake.cli import get_argument_parser

    from her2pipe.config import load

    get_argument_parser()
    load.load(ROOT / "config.yaml")


def _prepare_steps():
    """Import what the jobs of rules do, and put off what they put off."""
    from her2pipe.installation import deferred

    os.fsync = lambda file: None  # as in `conftest.py`
    with deferred.quick_start():
        _load([*LIBRARIES, *_modules("")])


# By what code imports.
PREPARE = {"snakemake": _prepare_workflow, "her2pipe.cli": _prepare_steps}


def _load(names):
    for name in names:
        importlib.import_module(name)


def _modules(*packages):
    """Return the names of all modules of packages of her2pipe; of all of them for ""."""
    import her2pipe

    names = [module.name for module in pkgutil.walk_packages(her2pipe.__path__, "her2pipe.")]
    starts = tuple(f"her2pipe.{package}" for package in packages)
    return [name for name in names if name.startswith(starts)]


def _receive(connection):
    """Return a request and its three streams."""
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    size, text = int.from_bytes(head, "big"), b""
    while len(text) < size:
        text += connection.recv(size - len(text))
    return json.loads(text), streams


def _work(request, streams):
    """Do in a fork what was asked, and end it."""
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        if (
            request["code"] == process_client.COMMAND
            and drawing.SVG_ALONE.items() <= os.environ.items()
        ):
            drawing.draw_svg_alone()
        sys.argv = request["words"]
        sys.stdin = open(0)  # noqa: SIM115
        exec(request["code"], {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
