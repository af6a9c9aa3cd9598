"""The command line: one verb per step, its settings as flags."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from her2pipe import __version__
from her2pipe.config import STEPS, Section, flags
from her2pipe.errors import Her2Error

# verb: its module
VERBS = {**{step: f"steps.{step}" for step in STEPS}, "cohort": "cohorts.importers.slides"}
VERBS |= {"prune": "steps.prune", "status": "steps.status"}


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
        if verb not in VERBS:
            raise Her2Error(
                f"unknown verb {verb}", "command line", f"use one of: {', '.join(VERBS)}"
            )
        module = importlib.import_module(f"her2pipe.{VERBS[verb]}")
        parser = argparse.ArgumentParser(
            prog=f"her2pipe {verb}", description=module.__doc__.split(":", 1)[-1].strip()
        )
        module.arguments(parser)
        sections = settings_of(module, argv[1:])
        for section in sections:
            flags.add_flags(parser, section)
        args = parser.parse_intermixed_args(argv[1:])
        with _logging(verb):
            module.run(args, *(flags.from_flags(section, args) for section in sections))
    except Her2Error as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a file one may not read: the machine's mistakes
        if error.filename is None and error.errno is None:
            raise  # not the system's: a library's own error, and so a bug to be seen
        where = error.filename or "the machine"
        fix = "make room, or correct the permissions, and run again"
        print(Her2Error(error.strerror or str(error), str(where), fix), file=sys.stderr)
        return 1
    return 0


@contextmanager
def _logging(verb: str) -> Iterator[None]:
    """Write what a step logs to standard error, one format for all: `her2pipe VERB: message`."""
    logger, handler = logging.getLogger("her2pipe"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"her2pipe {verb}: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def settings_of(module: ModuleType, argv: list[str]) -> tuple[type[Section], ...]:
    """Return the sections of settings that a step takes, which may depend on its arguments."""
    choose = getattr(module, "settings", None)
    return choose(argv) if choose else module.SETTINGS


def _overview() -> str:
    lines = ["usage: her2pipe VERB ...   (her2pipe VERB --help tells its arguments)", ""]
    for verb, name in VERBS.items():
        module = importlib.import_module(f"her2pipe.{name}")
        lines.append(f"  {verb:<11} {module.__doc__.splitlines()[0].split(':', 1)[-1].strip()}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
