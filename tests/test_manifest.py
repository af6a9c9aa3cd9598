"""The manifest: what a file of it holds comes back, and other tables are refused."""

import pytest

from her2pipe.errors import Her2Error
from her2pipe.files import write_table, write_text
from her2pipe.manifest import Item, Manifest

MANIFEST = Manifest(
    (
        Item("compare", path="results/compare"),
        Item("evaluate", "TL-PA", "swin-t", cohort="A", path="results/evaluate/TL-PA/A"),
        Item("evaluate", "TL-PA", "swin-t", cohort="B", path="results/evaluate/TL-PA/B"),
        Item("tile", view="adaptive", cohort="A", path="results/tile/adaptive/A"),
    )
)


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    write_text(tmp_path / "m.tsv", MANIFEST.to_text())
    assert Manifest.read(tmp_path / "m.tsv") == MANIFEST


def test_rows_are_selected_by_kind_and_columns():
    assert MANIFEST.paths("evaluate") == ["results/evaluate/TL-PA/A", "results/evaluate/TL-PA/B"]
    assert [item.cohort for item in MANIFEST.select("evaluate", cohort="B")] == ["B"]
    assert MANIFEST.paths("heatmap") == []


def test_a_digest_is_of_all_rows_and_their_order():
    same, other = Manifest(MANIFEST.items), Manifest(MANIFEST.items[::-1])
    assert same.digest() == MANIFEST.digest() != other.digest()


def test_another_table_is_refused(tmp_path):
    write_table(tmp_path / "m.tsv", ("slide", "score"), [{"slide": "A", "score": 1}])
    with pytest.raises(Her2Error, match="no manifest"):
        Manifest.read(tmp_path / "m.tsv")
