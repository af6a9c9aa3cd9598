"""A small development cohort to train on."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from process_server import shared
from stores import make_store, stained

HEADER = "slide\tpath\tpatient\tsplit\ther2\n"
SMALL = (
    *("--architecture", "test_resnet", "--input-px", "32", "--frozen", "--train-views", "64"),
    *("--batch-size", "16", "--learning-rate", "1e-3", "--device", "cpu"),
)


@pytest.fixture(scope="session")
def development_files(tmp_path_factory):
    """Folder of the stores and the sheet of `development`, drawn once."""
    folder = tmp_path_factory.mktemp("development")
    lines = [HEADER]
    for i in range(6):
        positive = i % 2 == 1
        tumour = stained(12, seed=i, cells=40 if positive else 15)
        stroma = stained(12, seed=100 + i, cells=1)
        pixels = np.concatenate([tumour, stroma])
        coords = [(64 * k, 0) for k in range(24)]
        fraction = np.array([1.0] * 12 + [0.2] * 12, np.float32)
        make_store(folder / f"S{i}.h5", pixels, coords, fraction)
        side = "validation" if i >= 4 else "train"
        lines.append(f"S{i}\tx{i}\tP{i}\t{side}\t{'positive' if positive else 'negative'}\n")
    (folder / "sheet.tsv").write_text("".join(lines))
    return folder


@pytest.fixture
def development(development_files, tmp_path):
    """Six annotated slides of two classes that look different, and their sheet."""
    shutil.copytree(development_files, tmp_path, dirs_exist_ok=True)
    return [tmp_path / f"S{i}.h5" for i in range(6)], tmp_path / "sheet.tsv"


KILLED = """
import os, signal, sys, threading, time
from her2pipe.cli import main

def watch(checkpoint):
    while not os.path.exists(checkpoint):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=watch, args=[sys.argv.pop()], daemon=True).start()
sys.exit(main())
"""


def kill_after_a_checkpoint(words, checkpoint="checkpoint.pt"):
    """Run a command that trains in a process of its own; it is killed when it has kept an epoch.

    The command's folder to write is a word named `killed`.
    """
    out = next(Path(word) for word in words if Path(word).name == "killed")
    checkpoint = out.with_name(f".{out.name}.resume") / checkpoint
    run = shared().run(KILLED, ["her2pipe", *map(str, words), checkpoint], out.parent)
    assert run.returncode == -signal.SIGKILL, f"it ended before it could be killed: {run.stderr}"
