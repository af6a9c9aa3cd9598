"""The checklist of reporting guidelines names every item, and none that does not exist."""

import re
from itertools import chain

import pytest

from her2pipe.reporting.disclosure.checklist import ITEMS

# Main items of TRIPOD+AI that have subitems, and the last letter of these.
LETTERS = {3: "c", 5: "b", 6: "c", 8: "c", 9: "c", 12: "g", 18: "f", 20: "c", 23: "b", 27: "c"}


def tripod_items():
    for number in range(1, 28):
        last = LETTERS.get(number)
        yield from (
            [f"{number}{chr(c)}" for c in range(97, ord(last) + 1)] if last else [f"{number}"]
        )


def numbers(text):
    """`15 to 18, 20` as single items."""
    for part in filter(None, text.split(", ")):
        if between := re.fullmatch(r"(\d+) to (\d+)", part):
            yield from map(str, range(int(between[1]), int(between[2]) + 1))
        else:
            yield part


@pytest.mark.parametrize(
    ("guideline", "items"), [("tripod", set(tripod_items())), ("claim", {*map(str, range(1, 45))})]
)
def test_every_item_of_a_guideline_is_named(guideline, items):
    named = [numbers(getattr(item, guideline)) for item in ITEMS]
    assert set(chain.from_iterable(named)) == items


def test_tripod_has_52_items():
    assert len(list(tripod_items())) == 52
