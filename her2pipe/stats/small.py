"""The one rule for small numbers: what is made of too few items is shown as it is, with a note."""

from __future__ import annotations

from collections.abc import Iterable


def too_few(sizes: Iterable[int | None], least: int, items: str = "slides") -> str:
    """Return why numbers made of groups of these sizes get no interval, box or test.

    Parameters
    ----------
    sizes : iterable of int or None
        Items of each group that a number is made of; None where that is not known.
    least : int
        Items from which on a group is enough.
    items : str
        What they are, in the plural.

    Returns
    -------
    str
        Empty where every group is large enough.

    Examples
    --------
    >>> too_few([12, 4], 5)
    'fewer than 5 slides: 4'
    >>> too_few([12, None, 5], 5)
    ''
    """
    smallest = min((size for size in sizes if size is not None), default=least)
    return f"fewer than {least} {items}: {smallest}" if smallest < least else ""
