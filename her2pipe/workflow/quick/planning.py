"""What Snakemake asks millions of times while it plans, by a shorter way; plans stay the same.

- `snakemake.common.get_function_params`: its answers are kept. Snakemake asks 30 times per job for
  the parameters of the same few functions, which was a sixth of the time of planning.
- `snakemake.io.is_flagged` and `IOFile`, the hash and equality of its files, `Job.shellcmd`,
  `Rule.expand_resources`, and `AttributeGuard` of its lists: the same answers by a shorter way, as
  plans ask millions of times;
  `Job.log_info`: not asked where `--quiet rules` prints nothing of jobs. A third of the time of
  planning.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from snakemake import common, io, iocontainers, jobs, rules
from snakemake.settings.types import Quietness

from her2pipe import deferred
from her2pipe.workflow import resources
from her2pipe.workflow.quick import is_known


def plan_quickly() -> None:
    """Take from planning what is repeated for every job; plans stay the same."""
    # A plan is millions of objects that stay, and no garbage.
    gc.set_threshold(max(gc.get_threshold()[0], deferred.COLLECTED_OBJECTS))
    ask = getattr(common, "get_function_params", None)
    if ask and not hasattr(ask, "__wrapped__"):
        for module in (common, rules):
            module.get_function_params = kept(ask)
    if is_known() and io.is_flagged is not is_flagged:
        _replace(io.is_flagged, is_flagged)
        # What a file is compared by is the text that it is, whatever it was made of.
        io._IOFile.__eq__, io._IOFile.__hash__ = str.__eq__, str.__hash__
        # Every list has two, which differ in nothing from those of other lists.
        # The class stays a class, for Snakemake asks what is one of it.
        iocontainers.AttributeGuard.__new__ = functools.cache(_one_guard)
        rules.IOFile = _file_of_rule
        rules.Rule.expand_resources = _once_per_attempt(rules.Rule.expand_resources)
        jobs.Job.shellcmd = property(_last_command(jobs.Job.shellcmd.fget))
        jobs.Job.log_info = _unless_quiet(jobs.Job.log_info)


def _one_guard(kind: type, name: str) -> Any:
    """Make the guard of a name, which is kept."""
    return object.__new__(kind)


def _replace(function: Callable, by: Callable) -> None:
    """Put another function in the place of one, in all modules of Snakemake that import it."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "snakemake":
            for word in [w for w, value in vars(module).items() if value is function]:
                setattr(module, word, by)


def is_flagged(value: Any, flag: str) -> bool:
    """Return whether a file of a rule has a flag, as `temp` or `directory`."""
    flags = getattr(value, "flags", None) if isinstance(value, str) else None
    return bool(flags and flags.get(flag))


def _file_of_rule(file: Any, rule: Any = None) -> Any:
    """Return a file of a rule; it is itself where it is one already, and not one around it."""
    if type(file) is io._IOFile and file.rule is rule and not file.is_callable():
        return file
    return io.IOFile(file, rule)


def _once_per_attempt(expand: Callable) -> Callable:
    """Return a function that works out once what all jobs of a rule ask a machine for.

    So where it hangs on the attempt alone. Jobs share the list: Snakemake changes that of a job
    only for outputs that are pipes, services or updated, of which this workflow has none.
    """
    known: dict[Hashable, Any] = {}

    @functools.wraps(expand)
    def get(
        rule: Any, wildcards: Any, input: Any, attempt: int, skip_evaluation: Iterable[str] = ()
    ) -> Any:
        skipped = frozenset(skip_evaluation or ())
        if not all(map(_is_by_attempt, rule.resources.values())):
            return expand(rule, wildcards, input, attempt, skip_evaluation=skipped)
        key = (rule, attempt, skipped)
        if key not in known:
            known[key] = expand(rule, wildcards, input, attempt, skip_evaluation=skipped)
        return known[key]

    return get


def _is_by_attempt(resource: Any) -> bool:
    """Return whether a resource is a number, grows with the attempt, or is Snakemake's folder."""
    if not resource.is_evaluable():
        return True
    is_folder = resource.name == "tmpdir" and resource.raw == "system_tmpdir"
    return is_folder or getattr(resource._evaluator, resources.BY_ATTEMPT, False)


def _last_command(command: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return a function that keeps the command of the job last asked for, while its params stay.

    What is printed of a job asks three times in a row.
    """
    asked: tuple = ()
    answer = ""

    def get(job: Any) -> str:
        nonlocal asked, answer
        # Asked first, as both are set at the first question, and again for another attempt.
        now = (job, job.params, job.resources)
        if len(asked) != len(now) or any(a is not b for a, b in zip(asked, now, strict=True)):
            answer = command(job)
            asked = now
        return answer

    return get


def _unless_quiet(log_info: Callable) -> Callable:
    """Return a function that gathers what is printed of a job only where it is printed."""

    @functools.wraps(log_info)
    def log(job: Any, *args: Any, **kwargs: Any) -> None:
        quiet = job.dag.workflow.output_settings.quiet or ()
        if Quietness.RULES not in quiet:
            log_info(job, *args, **kwargs)

    return log


def kept(parameters: Callable) -> Callable:
    """Return a function that keeps what `parameters` returns of functions and methods.

    A method is the same whatever object it is of.
    """
    known: dict[Hashable, Any] = {}

    @functools.wraps(parameters)
    def get(function: Any) -> Any:
        key = (getattr(function, "__func__", function), hasattr(function, "__self__"))
        try:
            if key not in known:
                known[key] = parameters(function)
        except TypeError:  # a callable object that cannot be a key
            return parameters(function)
        return known[key]

    return get
