"""The command line: one verb per step, its settings as flags."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from her2pipe import __version__, verbs
from her2pipe.job_server import client

# Imported by every job, even those that a server does: what else it takes is imported when needed.
MODULE = client.MODULE  # also where this is __main__
VERBS = {name: verb.module for name, verb in verbs.VERBS.items()}


def main(argv: list[str] | None = None) -> int:
    """Run one verb; a mistake of the user ends in three lines and exit code 1.

    Parameters
    ----------
    argv : list of str, optional
        Verb and arguments. Those of this process by default, which the server of a run may do.
    """
    if argv is not None:
        return _main(argv)
    argv = sys.argv[1:]
    with client.Job(argv, MODULE) as job:
        return _main(argv) if job.exit_code is None else job.exit_code


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(verbs.overview())
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


def _mistake(error: Exception, verb: str) -> Exception | None:
    """Return what a user can mend, of an error; None of a bug, which is to be seen."""
    import errno

    from her2pipe.errors import Her2Error, is_out_of_memory
    from her2pipe.installation import extras

    full_disk = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
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
        code = next((code for code in full_disk if os.strerror(code) in text), None)
        text = os.strerror(code) if code else text
    if code is None and where is None:
        return None
    fix = "make room, or correct the permissions, and run again"
    if code == errno.ENAMETOOLONG:
        fix = "choose a shorter name: file systems bear about 250 characters"
    return Her2Error(text, str(where or "the machine"), fix)


def _run(verb: str, words: list[str]) -> None:
    """Run a verb with its arguments and flags."""
    import importlib

    from her2pipe.errors import Her2Error
    from her2pipe.installation import deferred

    if verb == verbs.COMPLETION:
        from her2pipe import parsers

        print(parsers.completion(words))
        return
    if verb not in VERBS:
        hint = verbs.nearest(verb, [*VERBS, verbs.COMPLETION])
        fix = f"{hint}her2pipe --help lists all"
        raise Her2Error(f"there is no verb {verb}", "command line", fix)
    with deferred.quick_start(), log_to_stderr(verb):
        from her2pipe import parsers
        from her2pipe.config import flags

        module = importlib.import_module(f"her2pipe.{VERBS[verb]}")
        sections = parsers.settings_of(module, words)
        args = parsers.parser_of(verb, module, sections).parse_intermixed_args(words)
        module.run(args, *(flags.from_flags(section, args) for section in sections))


@contextmanager
def log_to_stderr(verb: str) -> Iterator[None]:
    """Write what a step logs to standard error, a line each: `encode: slide A-1, 210 patches`."""
    import logging

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


if __name__ == "__main__":
    sys.exit(main())
