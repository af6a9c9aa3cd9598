"""Packages of others: the examples of docs/architecture.md, installed, take part in a study."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import yaml
from drawing import SVG_ALONE
from example_package import install
from process_client import COMMAND, SNAKEMAKE
from process_server import ProcessServer
from small_study import LOCALLY, ROOT, arguments
from stores import stained

from her2pipe.files import read_table
from her2pipe.store import Encodings, PatchStore

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("images")]
STUDY = yaml.safe_load("""
study: {title: A study with plugins}
labels: {endpoint: two_grades}
cohorts:
  A: {sheet: A.tsv, role: development}
  B: {sheet: B.tsv, role: external}
slides: {reader: arrays}
stain: {stain_method: fixed}
tile: {patch_px: 64, variance_min: 100}
train:
  {architecture: resnet6, input_px: 32, train_views: ["64"], max_epochs: 1, batch_size: 8,
   fractions: {}, frozen: [], device: cpu}
encoders: {tiny: {view: "64"}}
encode: {device: cpu}
methods: {M: {encoder: tiny, aggregate: highest}}
evaluate: {resamples: 100}
compare: {resamples: 100}
report: {zoom_px: 0, gallery: 0}
""")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Run code in a folder where the example package is installed."""
    path = install(tmp_path_factory.mktemp("installed") / "site-packages")
    server = ProcessServer(path)
    yield server.run
    server.close()


@pytest.fixture(scope="module")
def results(installed, tmp_path_factory):
    """Slides that only the example package reads, through the whole study."""
    folder = tmp_path_factory.mktemp("plugins")
    for seed, cohort in enumerate("AB"):
        for i in range(6):
            grade = ("low", "high")[i % 2]
            tiles = stained(16, 10 * seed + i, cells=8 + 30 * (i % 2))
            picture = tiles.reshape(4, 4, 64, 64, 3).swapaxes(1, 2).reshape(256, 256, 3)
            (folder / cohort / grade).mkdir(parents=True, exist_ok=True)
            np.save(folder / cohort / grade / f"{cohort}{i}.npy", picture)
        sheet = installed(
            COMMAND, ["her2pipe", "cohort", "arrays", cohort, f"{cohort}.tsv"], folder
        )
        assert sheet.returncode == 0, sheet.stderr
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    study = installed(SNAKEMAKE, arguments(folder, *LOCALLY), folder, **SVG_ALONE)
    assert study.returncode == 0, study.stdout + study.stderr
    return folder / "results"


def test_the_importer_wrote_the_sheets(results):
    rows = read_table(results.parent / "B.tsv")
    assert {row["slide"]: row["grade"] for row in rows} == {
        f"B{i}": ("low", "high")[i % 2] for i in range(6)
    }


def test_slides_were_read_and_their_stain_estimated(results):
    with PatchStore(results / "tile/64/B/B0.h5") as store:
        assert store.metadata.reader == "arrays"
        assert len(store) == 16
        assert store.stain["matrix"][0] == pytest.approx([0.65, 0.70, 0.29], abs=0.01)


def test_the_network_was_trained(results):
    model = json.loads((results / "train/tiny/model.json").read_text())
    assert model["architecture"] == "resnet6"


def test_a_score_is_that_of_the_aggregation(results):
    encodings = Encodings([str(path) for path in (results / "encode/tiny/B").iterdir()])
    for row in read_table(results / "score/M/B.tsv"):
        p = encodings[row["slide"]].probabilities
        assert float(row["score"]) == pytest.approx(p[:, 1].max(), abs=1e-5)


def test_the_method_is_in_table_and_page(results):
    methods = read_table(results / "compare/methods.tsv")
    assert [(r["method"], r["aggregation"], r["cohort"]) for r in methods] == [
        ("M", "highest", "A"),
        ("M", "highest", "B"),
    ]
    page = (results / "report/index.html").read_text()
    assert "10.0000/example" in page  # what the aggregation asks to be cited
    assert "The largest slide" in page  # the section of the example


def test_the_schema_knows_the_names(installed, tmp_path):
    schema = installed(
        "from her2pipe.config.schema import schema; print(schema())", ["schema"], tmp_path
    )
    assert schema.returncode == 0, schema.stderr
    for name in ("arrays", "fixed", "highest"):
        assert f'"{name}"' in schema.stdout


def test_a_plugin_that_cannot_be_imported_is_named(tmp_path):
    install(tmp_path / "installed")
    (tmp_path / "installed/her2pipe_example/highest.py").write_text("import nowhere\n")
    words = ["-m", "her2pipe.cli", "score", "x.h5", "y.tsv", "--aggregate", "highest"]
    path = os.pathsep.join([str(tmp_path / "installed"), str(ROOT)])
    failed = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert failed.returncode == 1
    lines = failed.stderr.splitlines()
    assert re.match(r"her2pipe: the plugin highest cannot be imported: .*nowhere", lines[0])
    assert lines[2] == "  fix:   repair or uninstall its package"
