"""Jobs that a fork does behave as those that a process of their own does."""

import importlib.util
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from snakemake.benchmark import BenchmarkRecord

from her2pipe.job_server import client as job_client
from her2pipe.job_server import libraries
from her2pipe.job_server import server as job_server
from her2pipe.job_server.parent import PACKAGE, code_state
from her2pipe.workflow import snakemake_api
from her2pipe.workflow.quick import benchmarks

LEDGER = ["ledger", "A.tsv", "out.tsv", "--sheet", "A=sheet.tsv"]
SCORES = "slide\tflag\treason\nS1\t\tlate\n"
SCRIPT = "import sys\nfrom her2pipe.cli import main\nsys.exit(main())\n"
pytestmark = pytest.mark.skipif(not job_server._is_possible(), reason="needs Linux 5.3")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Starts commands of a run whose server has seen a job of a step that it does not know."""
    folder = write(tmp_path_factory.mktemp("first"))
    script = folder / "her2pipe"
    script.write_text(SCRIPT)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(job_client.SERVER, raising=False)
        run = job_server.start()
        assert job_server.start() is None  # there is one
        environment = os.environ | {"OMP_NUM_THREADS": "1"}

        def start(folder, *words, **options):
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            command = [sys.executable, script, *(words or LEDGER)]
            settings = {"env": environment} | streams | options
            return subprocess.Popen(command, cwd=folder, **settings)

        first = start(folder, "completion", "bash")
        assert "complete" in first.communicate()[0]
        assert job_server.usage_of(os.getpid()) is None  # no fork did it, as nothing was known
        yield start
        job_server.close(run)
        assert run.process.returncode == 0
        assert job_client.SERVER not in os.environ
        assert not Path(run.folder).exists()


def write(folder):
    """Write a cohort of one slide, and its scores."""
    (folder / "sheet.tsv").write_text("slide\tpath\tpatient\nS1\tS1.svs\tP1\n")
    (folder / "A.tsv").write_text(SCORES)
    return folder


@pytest.fixture
def waiting(tmp_path):
    """A folder where a ledger waits for its scores."""
    write(tmp_path)
    (tmp_path / "A.tsv").unlink()
    os.mkfifo(tmp_path / "A.tsv")
    return tmp_path


def fork_of(process):
    """Return the process that does the work of another, when it has begun."""
    while not (job := job_server.job_of(process.pid)):
        assert process.poll() is None
        time.sleep(0.01)
    fork = psutil.Process(job)
    while fork.status() == psutil.STATUS_RUNNING:  # not yet at its scores
        time.sleep(0.01)
    return fork


def test_a_fork_does_a_job_in_its_own_surroundings(client, tmp_path):
    (folder := tmp_path / "a b").mkdir()
    mask = os.umask(0o027)
    try:
        process = client(write(folder))
    finally:
        os.umask(mask)
    assert process.communicate() == ("", "ledger: 1 slides = 1 scored\n")
    assert process.returncode == 0
    assert (folder / "out.tsv").read_text().splitlines()[1].startswith("S1\tP1\tA\tscored")
    assert (folder / "out.tsv").stat().st_mode & 0o777 == 0o640
    assert job_server.usage_of(os.getpid()).cpu_s > 0


def test_a_job_of_an_unknown_step_is_likely_to_need_what_others_do():
    server = job_server._Server("", None, here={})
    assert server._modules("mine", False) == []
    server.kinds[("one", False)] = job_server._Kind(["a", "b"])
    server.kinds[("two", False)] = job_server._Kind(["torch", "c"])
    assert server._modules("mine", False) == ["a", "b"]
    assert server._modules("mine", True) == ["torch", "c"]
    assert "tifffile" in server._modules("tile", False)


def test_libraries_of_steps_are_there_and_are_used():
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    imported = set(re.findall(r"^ *(?:import|from) (\w+)", text, re.MULTILINE))
    modules = {name for step in libraries.OF_STEPS for name in libraries.of_step(step)}
    spare = {name for name in modules if name.partition(".")[0] not in imported | {"her2pipe"}}
    assert not spare
    missing = []
    for name in modules:
        package, *rest = name.split(".")
        place = Path(importlib.util.find_spec(package).origin).parent
        if rest and not list(place.glob("/".join(rest) + "*")):
            missing.append(name)
    assert not missing


def test_a_mistake_is_three_lines_and_an_exit_code(client, tmp_path):
    process = client(write(tmp_path), *LEDGER[:-1], "B=sheet.tsv")
    lines = process.communicate()[1].splitlines()
    assert process.returncode == 1
    assert [line[:9] for line in lines] == ["her2pipe:", "  where: ", "  fix:   "]


def test_a_fork_is_measured_with_the_process_it_works_for(client, waiting):
    with client(waiting) as process:
        fork = fork_of(process)
        assert fork.cwd() == str(waiting)
        began_with = fork.environ()
        assert fork not in psutil.Process(process.pid).children(recursive=True)
        tree = benchmarks.Tree(os.getpid())
        below = tree.children(recursive=True)
        assert fork in below
        assert tree.has_fork
        assert psutil.Process(process.pid) not in below  # which only waits
        timer = benchmarks.ForkTimer(os.getpid(), record := BenchmarkRecord())
        timer.start()
        (waiting / "A.tsv").write_text(SCORES)
        assert process.wait() == 0
        assert job_server.job_of(process.pid) is None
        record.cpu_time = -1
        timer.cancel()
        assert began_with.keys() >= job_server.MEMORY.keys()
        assert record.cpu_time > 0  # of the whole fork, by the kernel
        assert record.max_rss > 10
        assert job_server.usage_of(os.getpid()) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_who_ends_the_process_ends_its_fork(client, waiting, number):
    process = client(waiting)
    fork = fork_of(process)
    process.send_signal(number)
    message = process.communicate()[1]
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in message) == (number == signal.SIGINT)
    psutil.wait_procs([fork], timeout=60)
    assert not fork.is_running()


def test_a_fork_that_is_killed_ends_the_process_so(client, waiting):
    with client(waiting) as process:
        fork_of(process).kill()
        assert process.wait() == -signal.SIGKILL


def test_where_a_fork_would_not_be_the_same_a_job_does_its_work_itself(client, waiting):
    lower = (4 << 30, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    limited = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, lower)}
    with client(waiting, **limited) as process:
        with (waiting / "A.tsv").open("w") as scores:  # waits for its reader
            assert job_server.job_of(process.pid) is None
            scores.write(SCORES)
        assert process.wait() == 0


def test_only_a_run_on_this_machine_with_its_own_libraries_has_a_server(monkeypatch):
    starts = []
    monkeypatch.setattr(snakemake_api.server, "start", lambda: starts.append(1))
    monkeypatch.setattr(snakemake_api.atexit, "register", lambda *call: None)
    monkeypatch.setattr(benchmarks, "measure_forks", lambda: None)
    for is_main, is_local, method, count in (
        *((False, True, (), 0), (True, False, (), 0), (True, True, ("conda",), 0)),
        (True, True, (), 1),
    ):
        deployed = SimpleNamespace(deployment_method=method)
        snakemake_api._serve_jobs(
            SimpleNamespace(
                is_main_process=is_main, local_exec=is_local, deployment_settings=deployed
            )
        )
        assert len(starts) == count


def test_a_system_that_cannot_have_a_server_has_none(monkeypatch):
    monkeypatch.delenv(job_client.SERVER, raising=False)
    monkeypatch.setattr(os, "pidfd_open", lambda process: os.close(-1))  # an error of the system
    assert job_server.start() is None


def test_changed_code_is_seen(tmp_path):
    """Jobs after it start anew: a fork would have old modules beside new ones."""
    (tmp_path / "inner").mkdir()
    (module := tmp_path / "inner/one.py").touch()
    states = [code_state(tmp_path)]
    os.utime(module, ns=(0, states[0][1] + 1))
    states.append(code_state(tmp_path))
    (tmp_path / "two.py").touch()
    states.append(code_state(tmp_path))
    assert len(set(states)) == 3


def test_without_its_server_a_job_does_its_work_itself(tmp_path, monkeypatch):
    for folder in ("0", str(tmp_path / "gone")):
        monkeypatch.setenv(job_client.SERVER, folder)
        with job_client.Job(["ledger"], "her2pipe.cli") as job:
            assert job.exit_code is None


def test_a_message_carries_files_and_may_be_long(tmp_path):
    ours, theirs = socket.socketpair()
    with ours, theirs, (tmp_path / "file").open("w") as file:
        job_client.send(ours, {"words": ["ä" * 1000]}, (file.fileno(),))
        streams = []
        assert job_client.receive(theirs, streams) == {"words": ["ä" * 1000]}
        assert os.fstat(streams[0]).st_ino == os.fstat(file.fileno()).st_ino
        os.close(streams[0])
        ours.close()
        assert job_client.receive(theirs) is None


def test_a_shell_asks_the_server_before_it_starts_a_job(client, tmp_path):
    folder = write(tmp_path)
    (folder / "her2pipe").write_text("#!/bin/sh\necho itself $HER2PIPE_JOB_SERVER $*\n")
    (folder / "her2pipe").chmod(0o755)
    words = [
        "bash",
        "-c",
        f'set -euo pipefail; {job_server.shell_function()} her2pipe "$@"',
        "bash",
    ]
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    settings = {"cwd": folder, "capture_output": True, "text": True}
    done = subprocess.run([*words, *LEDGER], env=environment, **settings)
    assert (done.returncode, done.stderr) == (0, "ledger: 1 slides = 1 scored\n")
    assert (folder / "out.tsv").exists()
    environment[job_client.SERVER] = job_client.OFF
    done = subprocess.run([*words, "ledger", "a b"], env=environment, **settings)
    assert (done.returncode, done.stdout) == (0, "itself 0 ledger a b\n")


def test_models_are_built_before_jobs_are_forked():
    """Those that were put off are complete in the parent, and so in each of its forks."""
    code = (
        "import pydantic, her2pipe.config.slides as s; from her2pipe.job_server import parent;"
        "print(s.TileSettings.__pydantic_complete__); parent._build_models(pydantic.BaseModel);"
        "print(s.TileSettings.__pydantic_complete__, s.TileSettings().patch_px)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "512"]
