"""Two jobs on one machine never meet on a graphics card by accident."""

import subprocess
import sys

import pytest

from her2pipe.models import gpu

CODE = "from her2pipe.models import gpu; print(gpu.free_card({count}), flush=True); input()"


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    started = []

    def start(count):
        """Start a job: (its card, the job)."""
        words = [sys.executable, "-c", CODE.format(count=count)]
        job = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(job)
        return int(job.stdout.readline()), job

    yield start
    for job in started:
        if not job.stdin.closed:
            job.communicate("\n")


def test_jobs_take_different_gpus(start):
    (first, job), (second, _) = start(2), start(2)
    assert {first, second} == {0, 1}
    third, sharing = start(2)
    assert third == 0
    assert "all 2 graphics cards are in use" in sharing.communicate("\n")[1]
    job.kill()  # a killed job gives its card back
    job.communicate()
    assert start(2)[0] == first


def test_gpus_go_by_the_name_cuda_gives_them(start, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert start(2)[0] == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,2")
    assert start(2)[0] == 0  # card 3, which is free
    assert start(2)[0] == 0  # none is left
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert start(2)[0] == 0


def test_one_gpu_is_not_locked(start, tmp_path):
    assert start(1)[0] == start(1)[0] == 0
    assert list(tmp_path.glob("*.lock")) == []


def test_a_process_keeps_its_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(gpu, "_HELD", {})
    assert gpu.free_card(2) == gpu.free_card(2)


def test_a_job_takes_several_cards(tmp_path, monkeypatch):
    """Those that are free, or all it sees; with fewer than two it computes in its own process."""
    monkeypatch.setattr(gpu.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(gpu, "_HELD", {})
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6,7")
    assert gpu.several_cards(1) == []
    assert gpu.several_cards(4) == ["3", "5", "6", "7"]  # all are this job's
    assert not gpu._HELD
    assert gpu.several_cards(2) == ["3", "5"]
    held, taken = dict(gpu._HELD), {}
    monkeypatch.setattr(gpu, "_HELD", taken)  # another job
    assert gpu.several_cards(3) == ["6", "7"]
    for lock in (held | taken).values():
        gpu.os.close(lock)
