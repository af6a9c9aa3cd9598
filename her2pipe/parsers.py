"""The parsers of the command line: a verb's arguments, and its settings as flags."""

from __future__ import annotations

import argparse
import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from her2pipe import __version__, verbs
from her2pipe.errors import Her2Error

if TYPE_CHECKING:
    from her2pipe.config import Section

VERBS = {name: verb.module for name, verb in verbs.VERBS.items()}
# Flags that the rules of the workflow pass on, and that nobody gives by hand: not shown.
INTERNAL = {"algorithm", "trained", "held_out_by", "chosen_by_validation"}
EXAMPLES = "examples:"


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


def settings_of(module: ModuleType, words: list[str]) -> tuple[type[Section], ...]:
    """Return the sections of settings that a step takes, which may depend on its arguments."""
    choose = getattr(module, "settings", None)
    return choose(words) if choose else module.SETTINGS


def completion(words: list[str]) -> str:
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


def _description(verb: str, module: ModuleType) -> str:
    """Return what a verb does, and what else its module's docstring says."""
    more = (module.__doc__ or "").partition("\n\n")[2]
    summary = verbs.VERBS[verb].summary
    return f"{summary[0].upper()}{summary[1:]}. {more}".strip()
