"""The runner of all benchmarks, and those that can be run here: of a graphics card, on a CPU."""

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

BENCH = Path(__file__).parents[1] / "bench"


def test_the_bench_of_a_graphics_card_runs_without_one(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("bench_gpu", BENCH / "gpu.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    results = bench.main(["--quick", "--json", str(tmp_path / "gpu.json")])
    assert json.loads((tmp_path / "gpu.json").read_text()) == results
    (figures,) = results["networks"]
    ratio = figures["cpu"]["rate"] / figures["bare"]
    assert figures["cpu"]["of_bare"] == pytest.approx(ratio)
    assert 0 <= figures["cpu"]["waiting_share"] <= 1
    assert 0 < figures["normalisation_share"] < 1
    assert results["skipped"] == []
    text = capsys.readouterr().out
    assert "| test_resnet |" in text
    assert "goal >= 70 %" in text
    late = bench.main(["--quick", "--minutes", "0"])
    assert (late["networks"], late["skipped"]) == ([], ["test_resnet"])


def test_every_script_says_how_it_is_called_and_has_a_quick_form():
    missing = []
    for path in sorted(BENCH.glob("[!_]*.py")):
        text = path.read_text()
        docstring = ast.get_docstring(ast.parse(text))
        if f"bench/{path.name} [" not in docstring or '"--quick"' not in text:
            missing.append(path.name)
    assert missing == []


def test_no_script_has_the_name_of_a_library():
    """Their folder comes first where they look for modules, and the libraries they import do."""
    search = [place for place in sys.path if place != str(BENCH)]
    find = importlib.machinery.PathFinder.find_spec
    specs = {path.stem: find(path.stem, search) for path in BENCH.glob("[!_]*.py")}
    # a folder alone, as of these tests, has no origin
    assert [name for name, spec in specs.items() if spec and spec.origin] == []


def test_the_runner_goes_on_after_a_skip_and_a_failure_and_tells_of_it(tmp_path):
    scripts = {
        "fails": "raise ValueError('bits have rotted')",
        "none": "print('skipped: no graphics card')\nraise SystemExit(77)",
        "works": "import sys; print(sys.argv[1:])",
    }
    for name, text in scripts.items():
        (tmp_path / f"{name}.py").write_text(text)
    shutil.copy(BENCH / "__main__.py", tmp_path)
    command = [sys.executable, tmp_path]
    run = subprocess.run([*command, "--quick"], capture_output=True, text=True)
    lines = run.stdout.splitlines()
    assert run.returncode == 1
    assert run.stderr == "failed: fails\n"
    assert [line.split()[:2] for line in (lines[0], *lines[-2:])] == [
        ["fails", "failed"],
        ["none", "skipped:"],
        ["works", "done"],
    ]
    assert "    ValueError: bits have rotted" in lines
    assert (tmp_path / "output/works.txt").read_text() == "['--quick']\n"
    run = subprocess.run([*command, "works", "none"], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_outputs_of_two_versions_are_compared_by_what_both_have(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    versions = importlib.import_module("versions")
    before, now = tmp_path / "before", tmp_path / "now"
    work = versions.Work("made up", print, outputs=("*.h5", "*.tsv", "*.json"))
    grey = np.full((8, 8, 3), 100, np.uint8)
    for folder, shift, added in ((before, 0, "noise"), (now, 0.25, "quality")):
        folder.mkdir()
        with h5py.File(folder / "same.h5", "w") as file:
            file.attrs["version"] = added
            # The same pixels in other bytes, and a dataset that one alone has.
            codes = cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, int(9 * shift)])[1]
            file["jpeg/bytes"], file["jpeg/offsets"] = codes, [0, len(codes)]
            if shift:
                file[added] = [1.0]
        with h5py.File(folder / "other.h5", "w") as file:
            file["features"] = np.array([1.0, 2.0 + shift])
        (folder / "table.tsv").write_text(f"slide\tscore\t{added}\nS1\t{shift}\t1\n")
        (folder / "values.json").write_text(json.dumps({"auc": {"n": 5}, added: shift}))
    sizes = [sum(p.stat().st_size for p in f.glob("*.h5")) / 1000 for f in (before, now)]
    assert versions.compare(work, before, now) == (
        f"not: h5: features by 0.2; tsv: score; {sizes[0]:,.0f} kB, now {sizes[1]:,.0f}"
    )
    assert versions.compare_files(before / "same.h5", now / "same.h5") == []
    assert versions.compare(work, before, before).startswith("equal")
