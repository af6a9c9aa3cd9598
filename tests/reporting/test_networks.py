"""Networks, times of stages, and works to cite."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from her2pipe.config import ReportSettings
from her2pipe.files import write_table
from her2pipe.manifest import Item, Manifest
from her2pipe.reporting import networks
from her2pipe.reporting.disclosure import citations, throughput
from her2pipe.reporting.disclosure.versions import LIBRARIES
from her2pipe.reporting.html import Table, Text
from her2pipe.reporting.inputs import ReportInputs, Study


@pytest.mark.parametrize(
    ("views", "text", "crop"),
    [
        (["1024", "2048"], "training views 1024 px, 2048 px (level 0)", "1024 px"),
        (["80um"], "training views 80 µm", "80 µm"),
        (["adaptive"], "training views adaptive", "adaptive"),
        (["whole"], "whole images", "whole"),
    ],
)
def test_views_have_their_unit(tmp_path, views, text, crop):
    row = {"side": "train", "view": views[0], "kind": "1+", "available": 3, "used": 3, "slides": 1}
    metadata = {"train_views": views, "training_set": [row], "classes": ["1+"]}
    (tmp_path / "model.json").write_text(json.dumps(metadata))
    head = ("slide", "side", "exclusion_reason")
    write_table(tmp_path / "slides.tsv", head, [dict(zip(head, ("S", "train", "x"), strict=True))])
    blocks = networks.network(tmp_path, "net")
    (paragraph,) = (block for block in blocks if isinstance(block, Text))
    assert paragraph.text == f"{text}."
    assert paragraph.warnings == ["Slide S (train) was not used: x."]
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert table.rows[0][0].text == crop


def test_many_slides_of_one_reason_are_a_number(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps({"classes": ["1+"]}))
    rows = [{"slide": f"S{i}", "side": "test", "exclusion_reason": "x"} for i in range(6)]
    rows.append({"slide": "T", "side": "test", "exclusion_reason": "y"})
    write_table(tmp_path / "slides.tsv", ("slide", "side", "exclusion_reason"), rows)
    (text,) = (block for block in networks.network(tmp_path, "net") if isinstance(block, Text))
    assert list(text.warnings) == [
        "6 slides (test) were not used: x.",
        "Slide T (test) was not used: y.",
    ]


def test_throughput_sums_up_jobs(tmp_path):
    for path, seconds in (("tile/adaptive/C/S1", 2), ("tile/adaptive/C/S2", 4), ("compare", 3)):
        file = tmp_path / f"{path}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"s\th:m:s\tmax_rss\n{seconds}.0\t0:00:0{seconds}\t100.5\n")
    assert throughput.stages(tmp_path, ("tile", "compare"), {"tile adaptive": 60}) == [
        {
            "stage": "tile adaptive",
            "jobs": 2,
            "hours": 6 / 3600,
            "median_s": 3.0,
            "patches_s": 10.0,
            "memory_mb": 100.5,
        },
        {
            "stage": "compare",
            "jobs": 1,
            "hours": 3 / 3600,
            "median_s": 3.0,
            "patches_s": None,
            "memory_mb": 100.5,
        },
    ]


def test_citations_follow_what_is_used():
    study = Study(settings={"stain": {"stain_method": "macenko"}})
    manifest = Manifest((Item("explain"),))
    works = citations.cited_works(ReportInputs(study, manifest, ReportSettings(), [], []))
    names = [work.what for work in works]
    assert {"TL-PA", "Grad-CAM", "Snakemake"} <= set(names)
    assert "Macenko et al. 2009" in {work.who for work in works}
    assert "CLAM" not in names
    dois = [work.doi for work in works if work.doi]
    assert len(set(dois)) == len(dois)
    assert all(re.fullmatch(r"10\.\d{4,5}/\S+", doi) for doi in dois)


def test_versions_are_of_all_that_is_installed_with_it():
    """Every library that pyproject.toml declares, and what graphs and deployment need."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["formats"], *extras["deploy"]]
    names = {re.match("[A-Za-z0-9_-]+", each)[0] for each in declared}
    assert names | {"torch-geometric"} <= set(LIBRARIES)


def test_captions_name_what_learning_curves_show():
    both = [{"train_loss": "1", "validation_accuracy": "0.5", "validation_retrieval": "0.3"}]
    assert networks._measures(both) == "loss and retrieval"
    assert networks._measures([{"train_loss": "1", "train_r2_mean": "0.1"}]).endswith("mean DAB")
    assert networks._measures([{"train_loss": "1", "train_accuracy": ""}]) == "loss"
