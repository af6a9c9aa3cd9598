"""`her2pipe unpack`: what a study reads of a bundle, and nothing of one that was changed."""

import json

import pytest
from bundles import FILES, make_tiny_bundle

from her2pipe.bundles.write import write_zip
from her2pipe.cli import main


@pytest.fixture
def bundle(tmp_path):
    return make_tiny_bundle(tmp_path / "m")


def unpack(bundle, folder):
    """Unpack into a folder as the rule does; return the exit code."""
    words = ["unpack", bundle, "--encoder", folder / "encoder/M", "--aggregation"]
    words += [folder / "aggregation/M", "--description", folder / "bundle/M.json"]
    return main(list(map(str, words)))


@pytest.mark.parametrize("packed", [False, True])
def test_the_parts_of_a_bundle_are_where_rules_look_for_them(bundle, packed, tmp_path):
    source = bundle
    if packed:
        source = tmp_path / "m.zip"
        write_zip(bundle, source)
    out = tmp_path / "results/unpack"
    assert unpack(source, out) == 0
    for name, text in FILES.items():
        part, _, file = name.partition("/")
        assert (out / part / "M" / file).read_text() == text
    assert (out / "bundle/M.json").read_text() == (bundle / "bundle.json").read_text()
    assert sorted(p.name for p in out.rglob("*") if p.is_dir()) == [
        *("M", "M", "aggregation", "bundle", "encoder"),
    ]


def test_without_a_fit_the_folder_of_the_aggregation_is_empty(tmp_path):
    encoder = {name: text for name, text in FILES.items() if name.startswith("encoder")}
    bundle = make_tiny_bundle(tmp_path / "m", encoder)
    assert unpack(bundle, tmp_path / "out") == 0
    assert list((tmp_path / "out/aggregation/M").iterdir()) == []


def test_a_bundle_that_was_changed_leaves_nothing(bundle, tmp_path, capsys):
    (bundle / "encoder/model.json").write_text(json.dumps({"task": "changed"}))
    assert unpack(bundle, tmp_path / "out") == 1
    assert "changed or is damaged" in capsys.readouterr().err
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
