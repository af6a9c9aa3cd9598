"""How people write what a sheet says: unknown values, status, yes and no, IHC scores.

Every spelling here has one meaning only. What could mean two things is refused by its reader: a
lone `-` is no status, for it may be a negative result or none, and neither is `yes`.
"""

from __future__ import annotations

import re
import unicodedata

EMPTY = {
    *("na", "n/a", "#n/a", "n.a", "n/k", "nan", "-nan", "nat", "null", "none", "nil", "nd", "n.d"),
    *("unknown", "unk", "not known", "missing", "undefined", "unspecified", "unavailable"),
    *("not available", "not applicable", "not done", "not performed", "not evaluated"),
    *("not reported", "not specified", "not tested", "no data", "no result", "blank", "tbd"),
    *("anonymous", "anonymised", "anonymized", "na_character_", "1.#qnan", "1.#ind", "-1.#ind"),
    *("#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!"),  # what a formula left
}
UNDECIDED = {"equivocal", "indeterminate", "inconclusive", "borderline"}
POSITIVE = {"positive", "pos", "1", "amplified", "amp", "amplification"}
NEGATIVE = {
    *("negative", "neg", "0", "not amplified", "non amplified", "nonamplified", "unamplified"),
    *("not amp", "non amp", "no amplification"),
}
YES = {"yes", "y", "true", "t", "1", "pcr", "complete"}
NO = {"no", "n", "false", "f", "0", "no pcr", "non pcr", "not complete", "residual disease", "rd"}
IHC = re.compile(
    r"(?:her2(?:/neu)?)?[\s:=]*(?:ihc)?[\s:=]*(?:score|grade)?[\s:=]*"
    r"(?:([0-3])(?:[.,]0+)?\s*(\+?)|\+\s*([1-3])|(\+{1,3}))"
)
DASHES = re.compile(r"[-–—_.?*/#~!\s]*")  # only these: there is nothing to say
UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
# With digits after the point, or a sign of the exponent, it is no name such as 1E5.
SPREADSHEET_NUMBER = re.compile(r"[+-]?\d([.,]\d+[eE][+-]?\d{1,4}|[eE]\+\d{2,4})")
SPREADSHEET_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?|\d{1,2}:\d\d:\d\d")
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")


def plain(text: str) -> str:
    """Return a cell's words in lower case, without brackets around them or a stop at the end.

    What looks like a letter, digit or nothing is taken for it: `ＮＡ` and `３＋` of wide
    keyboards, marks of no width.
    """
    words = " ".join(UNSEEN.sub("", unicodedata.normalize("NFKC", text)).casefold().split())
    while len(words) > 2 and words[0] + words[-1] in ("[]", "()", "<>", "''"):
        words = words[1:-1].strip()
    return words if len(words) < 2 else words.rstrip(".")


def is_empty(text: str) -> bool:
    """Whether a cell is empty, or says only that there is nothing to say: `NA`, `-`, `unknown`."""
    words = plain(text)
    return words in EMPTY or DASHES.fullmatch(words) is not None


def is_unknown(text: str) -> bool:
    """Whether a cell is empty, or holds a result that decides nothing, such as `equivocal`."""
    return is_empty(text) or is_undecided(text)


def is_undecided(text: str) -> bool:
    """Whether a cell holds a result that decides nothing."""
    return plain(text) in UNDECIDED


def is_rounded(text: str) -> bool:
    """Whether a spreadsheet made a rounded number of a long name: `1.23457E+14`."""
    return SPREADSHEET_NUMBER.fullmatch(text.strip()) is not None


def is_time(text: str) -> bool:
    """Whether a spreadsheet made a date or a time of a name such as `3-12`."""
    return SPREADSHEET_TIME.fullmatch(text.strip()) is not None


def read_number(text: str) -> float | None:
    """Read a number, with point or decimal comma; None where it is none.

    >>> [read_number(text) for text in ("0.25", "0,25", "2.5e-1", "0_25", "25%")]
    [0.25, 0.25, 0.25, None, None]
    """
    digits = unicodedata.normalize("NFKC", text.strip())
    return float(digits.replace(",", ".")) if NUMBER.fullmatch(digits) else None


def as_name(text: str) -> str:
    """Return a name as one would compare it: composed letters, single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def read_status(text: str) -> bool | None:
    """Read a status: positive, negative, or None where it is neither.

    >>> [read_status(text) for text in ("HER2+", "Pos", "not amplified", "HER2-negative", "2+")]
    [True, True, False, False, None]
    """
    words = re.sub(r"^(her2(/neu)?|erbb2|d?ish|fish|cish|sish|er|pr)\b", "", plain(text))
    if words.strip() in ("+", "-"):  # alone they say nothing of what it is about
        return None if words.strip() == plain(text) else words.strip() == "+"
    words = words.replace("-", " ").strip(" :=")
    return True if words in POSITIVE else False if words in NEGATIVE else None


def read_yes_no(text: str) -> bool | None:
    """Read an answer: yes, no, or None where it is neither."""
    words = plain(text).replace("-", " ")
    return True if words in YES else False if words in NO else None


def read_ihc(text: str) -> str | None:
    """Read an IHC score, `0`, `1+`, `2+` or `3+`; None where it is none.

    >>> [read_ihc(text) for text in ("3", "Score 2+", "IHC 0", "++", "1.0", "4+")]
    ['3+', '2+', '0', '2+', '1+', None]
    """
    match = IHC.fullmatch(plain(text))
    if match is None:
        return None
    digit = match[1] or match[3] or str(len(match[4]))
    return "0" if digit == "0" else f"{digit}+"
