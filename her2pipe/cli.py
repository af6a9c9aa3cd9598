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
from typing import TYPE_CHECKING, Any, NoReturn

from her2pipe import __version__, deferred, extras, verbs
from her2pipe.errors import Her2Error, is_out_of_memory

if TYPE_CHECKING:
    from her2pipe.config import Section

VERBS = {name: verb.module for name, verb in verbs.VERBS.items()}
# Flags that the rules of the workflow pass on, and that nobody gives by hand: not shown.
INTERNAL = {"algorithm", "trained", "held_out_by", "chosen_by_validation"}
EXAMPLES = "examples:"
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; a mistake of the user ends in three lines and exit code 1."""
    argv = sys.argv[1:] if argv is None else argv
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
    if verb == verbs.COMPLETION:
        print(_completion(words))
        return
    if verb not in VERBS:
        hint = verbs.nearest(verb, [*VERBS, verbs.COMPLETION])
        fix = f"{hint}her2pipe --help lists all"
        raise Her2Error(f"there is no verb {verb}", "command line", fix)
    with deferred.quick_start(), log_to_stderr(verb):
        module = importlib.import_module(f"her2pipe.{VERBS[verb]}")
        sections = settings_of(module, words)
        args = parser_of(verb, module, sections).parse_intermixed_args(words)
        from her2pipe.config import flags

        module.run(args, *(flags.from_flags(section, args) for section in sections))


# --- arguments ----------------------------------------------------------------------------------


class _Help(argparse.HelpFormatter):
    """Help whose usage names what is required, and whose examples keep their lines."""

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = None) -> None:
        required = [action for action in actions if not action.option_strings or action.required]
        self._prog += " [OPTIONS]"
        super().add_usage(usage, required, (), prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(EXAMPLES) else super()._fill_text(text, width, indent)


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are three lines, with the flag that was meant."""

    def error(self, message: str) -> NoReturn:
        prefix, unknown = "unrecognized arguments: ", ""
        if message.startswith(prefix):
            words = message.removeprefix(prefix).split()
            unknown = next((word for word in words if word.startswith("-")), words[0])
            message = (
                f"unknown option {unknown}" if unknown[0] == "-" else f"surplus word {unknown}"
            )
        known = [flag for action in self._actions for flag in action.option_strings]
        hint = verbs.nearest(unknown.split("=")[0], known) if unknown else ""
        fix = f"{hint}{self.prog} --help lists all arguments"
        raise Her2Error(message, f"command line of {self.prog}", fix)


def parser_of(
    verb: str, module: ModuleType, sections: tuple[type[Section], ...]
) -> argparse.ArgumentParser:
    """Return the parser of a verb: its arguments, and its settings as flags."""
    from her2pipe.config import flags

    examples = [f"  {line}" for line in verbs.VERBS[verb].examples]
    parser = _Parser(
        prog=f"her2pipe {verb}",
        description=_description(verb, module),
        epilog="\n".join([EXAMPLES, *examples]),
        formatter_class=_Help,
    )
    module.arguments(parser)
    for section in sections:
        flags.add_flags(parser, section)
    for action in parser._actions:
        if action.dest in INTERNAL:
            action.help = argparse.SUPPRESS
    return parser


def _completion(words: list[str]) -> str:
    """Return the script that completes verbs and flags in a shell."""
    import shtab

    if len(words) != 1 or words[0] not in shtab.SUPPORTED_SHELLS:
        fix = (
            f"use one of: {', '.join(shtab.SUPPORTED_SHELLS)}; as in"
            f' eval "$(her2pipe {verbs.COMPLETION} bash)"'
        )
        raise Her2Error("name one shell", f"her2pipe {verbs.COMPLETION}", fix)
    whole = argparse.ArgumentParser(prog="her2pipe")
    whole.add_argument("--version", action="version", version=__version__)
    each = whole.add_subparsers()
    for verb in VERBS:
        module = importlib.import_module(f"her2pipe.{VERBS[verb]}")
        parser = parser_of(verb, module, settings_of(module, []))
        added = each.add_parser(
            verb, help=verbs.VERBS[verb].summary, parents=[parser], add_help=False
        )
        added.description = verbs.VERBS[verb].summary
    each.add_parser(verbs.COMPLETION, help="print this").add_argument(
        "shell", choices=shtab.SUPPORTED_SHELLS
    )
    return shtab.complete(whole, words[0])


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


def _description(verb: str, module: ModuleType) -> str:
    """Return what a verb does, and what else its module's docstring says."""
    more = (module.__doc__ or "").partition("\n\n")[2]
    summary = verbs.VERBS[verb].summary
    return f"{summary[0].upper()}{summary[1:]}. {more}".strip()


if __name__ == "__main__":
    sys.exit(main())
