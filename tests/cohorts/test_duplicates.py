"""The same image twice: found by its pixels, refused across sides, reported within one."""

from types import SimpleNamespace

import pytest

from her2pipe.cohorts import duplicates
from her2pipe.cohorts.sheet import Row
from her2pipe.errors import Her2Error, ManyErrors
from her2pipe.store import PatchMetadata

ROWS = {name: Row(name, f"some/{name}.png", f"P-{name}", 2) for name in "abcd"}


def stores(**digests):
    return [
        SimpleNamespace(metadata=PatchMetadata(slide=name), pixel_digest=digest)
        for name, digest in digests.items()
    ]


def test_groups_are_of_equal_digests_that_are_known():
    found = duplicates.groups([("b", "1"), ("a", "1"), ("c", "2"), ("d", ""), ("e", "")])
    assert found == [["a", "b"]]


def test_copies_within_a_side_are_reported():
    sides = {"a": "train", "b": "train", "c": "validation", "d": "validation"}
    found = duplicates.refuse_across_split(stores(a="1", b="1", c="2", d="3"), sides, ROWS)
    assert found == [["a", "b"]]


def test_copies_across_sides_are_refused_by_both_names():
    sides = {"a": "train", "b": "validation", "c": "train", "d": "validation"}
    with pytest.raises(Her2Error, match=r"a \(a.png\) and b \(b.png\) are the same image"):
        duplicates.refuse_across_split(stores(a="1", b="1", c="2", d="3"), sides, ROWS)
    with pytest.raises(ManyErrors) as caught:
        duplicates.refuse_across_split(stores(a="1", b="1", c="2", d="2"), sides, ROWS)
    assert len(caught.value.problems) == 2


def test_slides_have_no_digest_and_strangers_no_side():
    slides = stores(a="", b="")
    assert duplicates.refuse_across_split(slides, {"a": "train", "b": "validation"}, ROWS) == []
    assert duplicates.refuse_across_split(stores(a="1", z="1"), {"a": "train"}, ROWS) == []


def test_training_slides_are_not_evaluated():
    duplicates.refuse_trained_on({"a": "1", "b": ""}, {"c": "2", "d": ""}, ROWS)
    with pytest.raises(Her2Error, match=r"c and a \(a.png\) are the same image"):
        duplicates.refuse_trained_on({"a": "1"}, {"c": "1"}, ROWS)
