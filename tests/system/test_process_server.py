"""Forks of a process server behave as processes that are started."""

import signal
import subprocess
import sys
import time

import process_client
import psutil
from process_server import ROOT, shared


def test_a_fork_has_its_own_words_folder_streams_and_exit_code(tmp_path):
    code = "import sys, os; print(os.getcwd(), *sys.argv); print('no', file=sys.stderr); exit(3)"
    done = shared().run(code, ["name", "a b"], tmp_path)
    assert done.returncode == 3
    assert done.stdout == f"{tmp_path} name a b\n"
    assert done.stderr == "no\n"


def test_an_error_and_a_signal_are_reported():
    failed = shared().run("raise ValueError('why')", ["x"], ROOT)
    assert failed.returncode == 1
    assert failed.stderr.endswith("ValueError: why\n")
    said = shared().run("import sys; sys.exit('enough')", ["x"], ROOT)
    assert (said.returncode, said.stderr) == (1, "enough\n")
    killed = shared().run("import os; os.kill(os.getpid(), 9)", ["x"], ROOT)
    assert killed.returncode == -signal.SIGKILL


def test_a_fork_ends_with_the_process_that_asked(tmp_path):
    code = "import os, time; open('pid', 'w').write(f'{os.getpid()} '); time.sleep(60)"
    words = [shared().address, code, ["x"]]
    asking = f"from process_client import run; run(*{words!r}, folder={str(tmp_path)!r})"
    client = subprocess.Popen(
        [sys.executable, "-c", asking], cwd=process_client.__file__.rpartition("/")[0]
    )
    file = tmp_path / "pid"
    while not (file.exists() and file.read_text().endswith(" ")):
        time.sleep(0.02)
    fork = psutil.Process(int(file.read_text()))
    client.kill()
    client.wait()
    gone, _ = psutil.wait_procs([fork], timeout=30)
    assert gone
