"""Encoders and methods of splits and inner folds: those of the study, trained on fewer slides.

They are named after it, `swin-t.split2of5`, `TL-CLAM.split2of5` and of an inner fold
`swin-t.split2of5.fold1of3`, and go through the same rules: so another method or cohort adds no job
to them, and methods that share an encoder share these.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_FOLD = re.compile(r"(.+)\.fold([0-9]+of[0-9]+)")
_SPLIT = re.compile(r"(.+)\.split([0-9]+of[0-9]+(?:r[0-9]+)?)")


def of_split(name: str, split: str) -> str:
    """Return the name of an encoder or a method of a split; without one its own."""
    return f"{name}.split{split}" if split else name


def fold_encoders(encoder: str, folds: int) -> list[str]:
    """Return the names of the encoders of all inner folds."""
    return [f"{encoder}.fold{number}of{folds}" for number in range(1, folds + 1)]


def name_and_split(name: str, names: Collection[str]) -> tuple[str, str]:
    """Return the study's encoder or method that a name is of, and the split; empty without one.

    Parameters
    ----------
    name : str
    names : collection of str
        Names of the study.
    """
    match = None if name in names else _SPLIT.fullmatch(name)
    return (match[1], match[2]) if match and match[1] in names else (name, "")


def encoder_split_fold(name: str, encoders: Collection[str]) -> tuple[str, str, str]:
    """Return the study's encoder that a name is of, the split, and the inner fold; or nothing."""
    match = None if name in encoders else _FOLD.fullmatch(name)
    encoder, split = name_and_split(match[1] if match else name, encoders)
    if encoder not in encoders:
        return name, "", ""
    return encoder, split, match[2] if match else ""
