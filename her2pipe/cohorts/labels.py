"""HER2 status by the ASCO/CAP rules, hormone receptors, and residual cancer burden."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from her2pipe.cohorts.spellings import is_unknown

RCB_CLASSES = ("0", "I", "II", "III")
RECEPTOR_POSITIVE = 1  # per cent of stained nuclei from which on ER and PR are positive
SHARE = re.compile(r"([<>≤≥]=?)? ?(\d+(?:\.\d+)?)(?: ?(?:-|–|to) ?(\d+(?:\.\d+)?))? ?%?")


def label(
    her2: bool | None,
    ihc: str,
    fish: bool | None,
    ratio: float | None = None,
    copies: float | None = None,
) -> tuple[bool | None, str | None, str]:
    """Derive the binary status and the five-level label of a slide.

    Parameters
    ----------
    her2 : bool or None
        Final status given by the sheet; it always wins over a derived one.
    ihc : str
        `0`, `1+`, `2+`, `3+` or empty.
    fish : bool or None
        ISH status given by the sheet.
    ratio, copies : float or None
        HER2/CEP17 ratio and mean HER2 copies per cell of a dual-probe assay.

    Returns
    -------
    positive : bool or None
    level : str or None
        One of `config.LEVELS`.
    reason : str
        Why there is no binary status; empty when there is one.

    References
    ----------
    Wolff et al. 2018, doi 10.1200/JCO.2018.77.8738; affirmed 2023, doi 10.1200/JCO.22.02864.
    """
    why = ""
    if fish is None:
        fish, why = _ish(ihc, ratio, copies)
    derived: bool | None
    if ihc in ("0", "1+", "3+"):
        derived = ihc == "3+"
    else:
        derived = fish
        if fish is None:
            open_2 = f"IHC 2+, {why}" if why else "IHC 2+ without ISH"
            why = open_2 if ihc else why or "no HER2 status"
    positive = derived if her2 is None else her2
    level = ihc or None
    if ihc == "2+":
        ish = fish if fish is not None else her2  # a final status of a 2+ slide is its ISH status
        level = None if ish is None else "2+/FISH+" if ish else "2+/FISH-"
    return positive, level, "" if positive is not None else why


def _ish(ihc: str, ratio: float | None, copies: float | None) -> tuple[bool | None, str]:
    """Interpret a dual-probe ISH result by its ASCO/CAP group."""
    if ratio is None and copies is None:
        return None, ""
    if ratio is None or copies is None:
        return None, f"ISH without {'fish_ratio' if ratio is None else 'fish_copies'}"
    if ratio >= 2 and copies >= 4:  # group 1
        return True, ""
    if ratio < 2 and copies < 4:  # group 5
        return False, ""
    if not ihc:
        group = 2 if ratio >= 2 else 3 if copies >= 6 else 4
        return None, f"ISH group {group} needs the IHC score"
    if ratio < 2 and copies >= 6:  # group 3
        return ihc in ("2+", "3+"), ""
    return ihc == "3+", ""  # groups 2 and 4


def label_conflict(
    her2: bool | None,
    ihc: str,
    fish: bool | None,
    ratio: float | None = None,
    copies: float | None = None,
) -> str:
    """Say which assay a sheet's final status contradicts; empty where it does none.

    The status wins all the same: a pathologist may know more than these columns hold. Parameters
    are those of `label`.

    >>> label_conflict(False, "3+", None)
    'final status negative, but IHC 3+'
    """
    if her2 is None:
        return ""
    assays = []
    if ihc in ("0", "1+", "3+") and her2 != (ihc == "3+"):
        assays.append(f"IHC {ihc}")
    ish = fish if fish is not None else _ish(ihc, ratio, copies)[0]
    if ish is not None and ish != her2:
        by_number = f"ISH ratio {ratio:g} with {copies:g} copies" if fish is None else ""
        assays.append(by_number or f"FISH {'positive' if fish else 'negative'}")
    status = "positive" if her2 else "negative"
    return f"final status {status}, but {' and '.join(assays)}" if assays else ""


def receptor(text: str) -> bool | None:
    """Read the status of ER or PR from the share of stained nuclei in per cent.

    Positive from 1 %, "low positive" up to 10 % included. A share may be a number, with or without
    `%`, a range, or a limit such as `<1`; None where it lies on both sides of 1 %.

    Raises
    ------
    ValueError
        When the text is no share.

    References
    ----------
    Allison et al. 2020, doi 10.1200/JCO.19.02309.

    >>> [receptor(text) for text in ("80 %", "1", "0.5", "<1%", "1-10", "<10")]
    [True, True, False, False, True, None]
    """
    read = SHARE.fullmatch(text.strip())
    if not read:
        raise ValueError(f"{text!r} is no share in per cent")
    limit, low = read[1] or "", float(read[2])
    high = float(read[3]) if read[3] else low
    if not low <= high <= 100 or (limit and read[3]):
        raise ValueError(f"{text!r} is no share in per cent")
    if limit.startswith((">", "≥")):
        return True if low >= RECEPTOR_POSITIVE else None
    if limit:
        strictly = limit == "<"
        below = low <= RECEPTOR_POSITIVE if strictly else low < RECEPTOR_POSITIVE
        return False if below else None
    if low >= RECEPTOR_POSITIVE:
        return True
    return False if high < RECEPTOR_POSITIVE else None


def rcb_index(
    diameter1_mm: float,
    diameter2_mm: float,
    cellularity: float,
    in_situ: float,
    nodes: int,
    metastasis_mm: float,
) -> float:
    """Compute the residual cancer burden.

    Parameters
    ----------
    diameter1_mm, diameter2_mm : float
        Diameters of the primary tumour bed.
    cellularity, in_situ : float
        Cancer cellularity and in-situ share, fractions.
    nodes : int
        Positive lymph nodes.
    metastasis_mm : float
        Diameter of the largest nodal metastasis.

    References
    ----------
    Symmans et al. 2007, doi 10.1200/JCO.2007.10.6823.
    """
    primary = (1 - in_situ) * cellularity * math.sqrt(diameter1_mm * diameter2_mm)
    nodal = 4 * (1 - 0.75**nodes) * metastasis_mm
    return 1.4 * primary**0.17 + nodal**0.17


def rcb_class(index: float) -> str:
    """Return class 0, I (<= 1.36), II (<= 3.28) or III of an RCB index."""
    return "0" if index == 0 else "I" if index <= 1.36 else "II" if index <= 3.28 else "III"


def read_rcb(text: str, wrong: Callable[[str, str, str], None]) -> str | None:
    """Read an RCB class, or the class of an RCB index written with a decimal point.

    `wrong` is called with column, mistake and remedy where the text is neither.
    """
    name = text.upper().removeprefix("RCB").strip(" -")
    if is_unknown(text):
        return None
    if name in RCB_CLASSES:
        return name
    if re.fullmatch(r"[0-9]+\.[0-9]+", name):
        return rcb_class(float(name))
    wrong(
        "rcb",
        f"rcb is {text!r}",
        "use 0, I, II or III, or the index with a decimal point such as 1.0",
    )
    return None
