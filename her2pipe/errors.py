"""Errors a user reads: what is wrong, where, and how to put it right."""

from __future__ import annotations

import errno
import re

LINE_BREAKS = re.compile("[\t\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+")  # whoever takes them so
LONGEST = 2000  # characters of a line


class Her2Error(Exception):
    """A mistake the user can mend.

    Parameters
    ----------
    what : str
        One sentence: what is wrong.
    where : str
        File, line, column or option.
    fix : str
        What to do about it.
    """

    def __init__(self, what: str, where: str, fix: str):
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        what, where, fix = map(one_line, (self.what, self.where, self.fix))
        return f"her2pipe: {what}\n  where: {where}\n  fix:   {fix}"


def one_line(text: str) -> str:
    """Return a text as one line of bounded length, whatever a file put into it."""
    text = LINE_BREAKS.sub(" ", text).encode(errors="replace").decode()  # halves of letters, too
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


class BadSlideError(Her2Error):
    """A slide that cannot be used although the machine is well.

    `what` is the reason recorded in the patch store and the ledger.
    """


class ManyErrors(Her2Error):  # noqa: N818 - reads as what it is: several errors at once
    """Several mistakes, reported at once."""

    def __init__(self, problems: list[Her2Error]):
        super().__init__(problems[0].what, problems[0].where, problems[0].fix)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def raise_all(problems: list[Her2Error]) -> None:
    """Raise what was collected: nothing, one error, or all of them together."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ManyErrors(problems)


# How libraries say that memory ran out; a loader killed by the kernel ran out of it, too.
OUT_OF_MEMORY = re.compile(
    r"out of memory|insufficient memory|not enough memory|bad_alloc|DefaultCPUAllocator"
    r"|(?:can't|cannot|can not|unable to|failed to) (?:re)?alloc|memory allocation fail"
    r"|can't start new thread|failed to map segment|killed by signal: Killed|alloc.*failed",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, whatever library says so."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return not isinstance(error, Her2Error) and bool(OUT_OF_MEMORY.search(str(error)[:LONGEST]))
