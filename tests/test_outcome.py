"""What evaluate writes for a study of classes."""

import madeclass
import pytest


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return madeclass.evaluation(tmp_path_factory.mktemp("made"))


def test_tables_and_figures(made):
    found = {path.name for path in made.iterdir()}
    figures = {"roc", "tile_roc", "confusion", "grades", "calibration"}
    assert found == {
        "metrics.json", "slides.tsv", "per_class.tsv", "subgroups.tsv",
        *(f"{name}.{kind}" for name in figures for kind in ("png", "svg")),
        *(f"{name}.tsv" for name in figures - {"grades"}),
    }  # fmt: skip
