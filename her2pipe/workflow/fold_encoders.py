"""Encoders of inner folds: an encoder of the study, trained without the slides of one fold.

They are named after it, `swin-t.fold2of5`, and go through the same rules: so another method or
cohort adds no job to them, and methods that share an encoder share these.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_NAME = re.compile(r"(.+)\.fold([0-9]+of[0-9]+)")


def fold_encoders(encoder: str, folds: int) -> list[str]:
    """Return the names of the encoders of all folds."""
    return [f"{encoder}.fold{number}of{folds}" for number in range(1, folds + 1)]


def encoder_and_fold(name: str, encoders: Collection[str]) -> tuple[str, str]:
    """Return the study's encoder that a name is of, and the fold, as 2of5; empty without one.

    Parameters
    ----------
    name : str
    encoders : collection of str
        Names of the study's encoders.
    """
    match = None if name in encoders else _NAME.fullmatch(name)
    return (match[1], match[2]) if match and match[1] in encoders else (name, "")
