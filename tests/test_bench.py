"""Benchmarks that are run where they can be: of a graphics card, a small run on a CPU."""

import importlib.util
import json
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


def test_the_bench_of_a_graphics_card_runs_without_one(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("bench_gpu", BENCH / "gpu.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    results = bench.main(["--small", "--json", str(tmp_path / "gpu.json")])
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
    late = bench.main(["--small", "--minutes", "0"])
    assert (late["networks"], late["skipped"]) == ([], ["test_resnet"])
