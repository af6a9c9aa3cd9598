"""The command line: one verb per step, its settings as flags."""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from her2pipe import __version__, deferred, extras
from her2pipe.config import STEPS, Section, flags
from her2pipe.errors import Her2Error, is_out_of_memory

# verb: its module
VERBS = {**{step: f"steps.{step}" for step in STEPS}, "cohort": "steps.cohort"}
VERBS |= {"prune": "steps.prune", "status": "steps.status", "encoders": "steps.encoders"}
VERBS |= {"init": "steps.init", "run": "steps.run", "predict": "steps.predict"}


FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; a mistake of the user ends in three lines and exit code 1."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(__version__)
        return 0
    verb = argv[0]
    try:
        _run(verb, argv[1:])
    except Exception as error:
        mistake = _mistake(error, verb)
        if mistake is None:
            raise
        print(mistake, file=sys.stderr)
        return 1
    return 0


def _mistake(error: Exception, verb: str) -> Her2Error | None:
    """Return what a user can mend, of an error; None of a bug, which is to be seen."""
    if isinstance(error, Her2Error):
        return error
    if is_out_of_memory(error):
        fix = "give the job more memory, fewer threads, or a smaller batch"
        return Her2Error("out of memory", f"her2pipe {verb}", fix)
    if isinstance(error, ImportError) and (missing := extras.of_import(error)):
        return missing
    code, where, text = None, None, str(error)
    if isinstance(error, OSError):  # a full disk, a file one may not read: the machine's mistakes
        code, where, text = error.errno, error.filename, error.strerror or text
    else:  # libraries put the system's words into errors of their own
        code = next((code for code in FULL_DISK if os.strerror(code) in text), None)
        text = os.strerror(code) if code else text
    if code is None and where is None:
        return None
    fix = "make room, or correct the permissions, and run again"
    if code == errno.ENAMETOOLONG:
        fix = "choose a shorter name: file systems bear about 250 characters"
    return Her2Error(text, str(where or "the machine"), fix)


def _run(verb: str, words: list[str]) -> None:
    """Run a verb with its arguments and flags."""
    if verb not in VERBS:
        raise Her2Error(f"unknown verb {verb}", "command line", f"use one of: {', '.join(VERBS)}")
    with deferred.quick_start(), log_to_stderr(verb):
        module = importlib.import_module(f"her2pipe.{VERBS[verb]}")
        parser = argparse.ArgumentParser(prog=f"her2pipe {verb}", description=summary(module))
        module.arguments(parser)
        sections = settings_of(module, words)
        for section in sections:
            flags.add_flags(parser, section)
        args = parser.parse_intermixed_args(words)
        module.run(args, *(flags.from_flags(section, args) for section in sections))


def settings_of(module: ModuleType, words: list[str]) -> tuple[type[Section], ...]:
    """Return the sections of settings that a step takes, which may depend on its arguments."""
    choose = getattr(module, "settings", None)
    return choose(words) if choose else module.SETTINGS


@contextmanager
def log_to_stderr(verb: str) -> Iterator[None]:
    """Write what a step logs to standard error, a line each: `encode: slide A-1, 210 patches`."""
    logger, handler = logging.getLogger("her2pipe"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{verb}: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # libraries that log through the root would have each line twice
    try:
        yield
    finally:
        logger.propagate = True
        logger.removeHandler(handler)


def summary(module: ModuleType) -> str:
    """Return what a verb does, from its module's docstring `Step VERB: ...`."""
    return (module.__doc__ or "").split(":", 1)[-1].strip()


def _overview() -> str:
    lines = ["usage: her2pipe VERB ...   (her2pipe VERB --help shows its arguments)", ""]
    for verb, name in VERBS.items():
        module = importlib.import_module(f"her2pipe.{name}")
        lines.append(f"  {verb:<11} {summary(module).splitlines()[0]}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
