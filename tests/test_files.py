"""Files and folders that are complete or not there, also after a job was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from her2pipe import files
from her2pipe.errors import Her2Error


@pytest.mark.parametrize("kind", ["replacing", "replacing_folder"])
def test_after_an_error_nothing_is_left_and_the_old_one_stays(tmp_path, kind):
    old = tmp_path / "out" / ("x" if kind == "replacing_folder" else "")
    files.write_text(old, "old")

    def fail():
        with getattr(files, kind)(tmp_path / "out") as part:
            (part / "x" if part.is_dir() else part).write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert old.read_text() == "old"


def test_each_file_is_written_out_once_before_it_is_in_its_place(tmp_path, monkeypatch):
    """Also one that is moved to its place within a folder that is moved in the end."""
    flushed = []
    monkeypatch.setattr(
        files.os, "fsync", lambda n: flushed.append(Path(os.readlink(f"/proc/self/fd/{n}")).name)
    )
    with files.replacing_folder(tmp_path / "folder") as folder:
        files.write_text(folder / "a.txt", "a")
        files.write_text(folder / "inner" / "b.txt", "b")
    assert sorted(flushed) == ["a.txt", "b.txt"]
    files.write_text(tmp_path / "folder" / "c.txt", "c")
    assert len(flushed) == 3
    assert flushed[-1].startswith(".c.txt")


@pytest.mark.parametrize("kind", ["replacing", "replacing_folder"])
def test_what_a_killed_job_left_goes_when_the_output_is_made_again(tmp_path, kind):
    code = (
        "import time; from her2pipe import files\n"
        f"with files.{kind}({str(tmp_path / 'out')!r}) as part:\n"
        "    (part / 'x' if part.is_dir() else part).write_text('half')\n"
        "    print('there', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as job:
        job.stdout.readline()
        job.send_signal(signal.SIGKILL)
        job.wait(10)
    assert len(list(tmp_path.iterdir())) == 1
    assert not (tmp_path / "out").exists()
    files.write_text(tmp_path / "out.b", "a sibling whose name goes on")
    with (
        files.replacing(tmp_path / "out.b") as live,
        getattr(files, kind)(tmp_path / "out") as part,
    ):
        live.write_text("other")
        (part / "x" if part.is_dir() else part).write_text("whole")
        assert live.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out.b"]


def test_a_job_still_at_work_keeps_its_part(tmp_path):
    """Snakemake was killed, its job was not, and the next run makes the same output."""
    code = (
        "from her2pipe import files\n"
        f"with files.replacing({str(tmp_path / 'out')!r}) as part:\n"
        "    part.write_text('the first')\n"
        "    print('there', flush=True); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as job:
        job.stdout.readline()
        files.write_text(tmp_path / "out", "the second")
        assert len(list(tmp_path.iterdir())) == 2
        job.communicate(b"\n")
    assert job.returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "the first"


def test_parts_of_two_machines_never_meet(tmp_path, monkeypatch):
    names = set()
    for host in ("node1", "node2"):
        monkeypatch.setattr(files.socket, "gethostname", lambda host=host: host)
        with files.replacing(tmp_path / "out") as part:
            part.write_text(host)
            names.add(part.name)
    assert len(names) == 2
    assert str(os.getpid()) in next(iter(names))


def fill(path, *names):
    with files.replacing_folder(path) as folder:
        for name in names:
            (folder / name).write_text("new")


def test_a_folder_of_other_things_is_never_replaced(tmp_path, monkeypatch):
    """A slip of the command line took a folder of slides for the output, and it was gone."""
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "a.svs").write_text("precious")
    with pytest.raises(Her2Error, match=r"a folder of other things, such as a\.svs"):
        fill(slides, "table.tsv")
    assert (slides / "a.svs").read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["slides"]
    monkeypatch.chdir(slides)
    for place in (".", "..", slides, tmp_path, "/", Path.home()):
        with pytest.raises(Her2Error, match=r"holds more|has no name"):
            fill(place, "a.svs")
    (tmp_path / "f").touch()
    with pytest.raises(Her2Error, match="the output folder is a file"):
        fill(tmp_path / "f", "a.tsv")
    assert (slides / "a.svs").read_text() == "precious"


def test_an_older_output_is_replaced_whatever_it_holds_beside(tmp_path):
    fill(tmp_path / "out", "table.tsv", "S1.h5", "old.png")
    (tmp_path / "out" / ".snakemake_timestamp").touch()
    fill(tmp_path / "out", "table.tsv", "S2.h5")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["S2.h5", "table.tsv"]
    fill(tmp_path / "out", "S3.h5", "other.tsv")  # no common name, but the same kinds of files
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "empty", "table.tsv")


@pytest.mark.parametrize("place", ["", "."])
def test_an_output_without_a_name(place):
    with pytest.raises(Her2Error, match="the output has no name"), files.replacing(place):
        pass
