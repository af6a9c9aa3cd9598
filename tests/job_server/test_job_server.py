"""Jobs that a fork does behave as those that a process of their own does."""

import os
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

from her2pipe.job_server import client as job_client
from her2pipe.job_server import server as job_server
from her2pipe.job_server.parent import code_state
from her2pipe.workflow import snakemake_api

LEDGER = ["ledger", "A.tsv", "out.tsv", "--sheet", "A=sheet.tsv"]
SCORES = "slide\tflag\treason\nS1\t\tlate\n"
SCRIPT = "import sys\nfrom her2pipe.cli import main\nsys.exit(main())\n"
pytestmark = pytest.mark.skipif(not job_server._is_possible(), reason="needs Linux 5.3")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Starts commands of a run whose server knows what modules a ledger imports."""
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

        first = start(folder)
        assert first.communicate()[1] == "ledger: 1 slides = 1 scored\n"
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


def test_a_mistake_is_three_lines_and_an_exit_code(client, tmp_path):
    process = client(write(tmp_path), *LEDGER[:-1], "B=sheet.tsv")
    lines = process.communicate()[1].splitlines()
    assert process.returncode == 1
    assert [line[:9] for line in lines] == ["her2pipe:", "  where: ", "  fix:   "]


def test_a_fork_is_measured_with_the_process_it_works_for(client, waiting):
    with client(waiting) as process:
        fork = fork_of(process)
        assert fork.cwd() == str(waiting)
        assert fork not in psutil.Process(process.pid).children(recursive=True)
        timer = SimpleNamespace()
        snakemake_api._measuring_forks(lambda timer, pid: None)(timer, process.pid)
        assert fork in timer.main.children(recursive=True)
        (waiting / "A.tsv").write_text(SCORES)
        assert process.wait() == 0
        assert job_server.job_of(process.pid) is None


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
    timer = snakemake_api.benchmark.BenchmarkTimer
    monkeypatch.setattr(timer, "__init__", timer.__init__)
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
