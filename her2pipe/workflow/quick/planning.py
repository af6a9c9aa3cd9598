"""What Snakemake asks millions of times while it plans, by a shorter way; plans stay the same.

- `snakemake.common.get_function_params`: its answers are kept. Snakemake asks 30 times per job for
  the parameters of the same few functions, which was a sixth of the time of planning.
- `snakemake.io.is_flagged` and `IOFile`, the hash and equality of its files, `Job.shellcmd`,
  `Rule.expand_resources`: the same answers by a shorter way, as plans ask millions of times.
- `Job.log_info`: not asked where `--quiet rules` prints nothing of jobs; a dry run keeps no params
  that were printed.
- `Namedlist`, of which each job has four to eight: what guards the words `index` and `sort` stands
  once in the class, whether a name is allowed is asked once, and equal places are one.
- `Job.conda_env_spec`: an environment that all jobs of a rule share needs no params of each, which
  are worked out where they are used.
- The five sets of special files of a job, mostly empty: empty ones are one.
- `Persistence.params_changed`: a job whose params are as they were keeps none of them.
- `DAG.update_needrun`: asks all jobs in turn when their outputs were written, which are no tasks of
  an event loop, all at once: these were a tenth of the memory of a plan.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from snakemake import common, io, iocontainers, jobs, persistence, rules
from snakemake.settings.types import Quietness

from her2pipe.installation import deferred
from her2pipe.workflow import resources
from her2pipe.workflow.quick import is_known

GUARDED = ["index", "sort"]  # words of files or params that are methods of lists, too
SETS_OF_JOB = (
    *("temp_output", "protected_output", "touch_output"),
    *("pipe_or_service_output", "_queue_input"),
)
EMPTY: frozenset = frozenset()


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
        for name in GUARDED:
            setattr(iocontainers.Namedlist, name, iocontainers.AttributeGuard(name))
        iocontainers.Namedlist._allowed_overrides = GUARDED
        iocontainers.Namedlist.__init__ = _named_list(iocontainers.Namedlist.__init__)
        iocontainers.Namedlist._set_name = _naming(iocontainers.Namedlist._set_name)
        rules.IOFile = _file_of_rule
        rules.Rule.expand_resources = _once_per_attempt(rules.Rule.expand_resources)
        jobs.Job.shellcmd = property(_last_command(jobs.Job.shellcmd.fget))
        jobs.Job.log_info = _unless_quiet(jobs.Job.log_info)
        jobs.Job.conda_env_spec = property(_of_rule(jobs.Job.conda_env_spec.fget))
        if dag := sys.modules.get("snakemake.dag"):  # which nothing else can import first
            dag.DAG.update_needrun = _in_turn(dag.DAG.update_needrun, dag)
        jobs.Job.__init__ = _sharing_empty_sets(jobs.Job.__init__)
        persistence.PersistenceBase.params_changed = _forgetting_params(
            persistence.PersistenceBase.params_changed
        )


def _named_list(initialise: Callable) -> Callable:
    """Return a function that begins a list with names; of the class what guards its methods."""

    @functools.wraps(initialise)
    def begin(
        named: Any,
        toclone: Iterable[Any] | None = None,
        fromdict: Mapping[str, Any] | None = None,
        plainstr: bool = False,
        strip_constraints: bool = False,
        custom_map: Callable | None = None,
    ) -> None:
        if plainstr or strip_constraints or custom_map:
            initialise(named, toclone, fromdict, plainstr, strip_constraints, custom_map)
            return
        list.__init__(named, () if toclone is None else toclone)
        named._names = {}
        if isinstance(toclone, iocontainers.Namedlist):
            named._take_names(toclone._get_names())
        for name, item in (fromdict or {}).items():
            named.append(item)
            named._add_name(name)

    return begin


def _naming(set_name: Callable) -> Callable:
    """Return a function that names an item of a list, or several."""
    allowed: set[tuple[type, str]] = set()
    place = functools.cache(lambda index, end: (index, end))

    @functools.wraps(set_name)
    def name_items(named: Any, name: str, index: int, end: int | None = None) -> None:
        if (key := (type(named), name)) not in allowed:
            set_name(named, name, index, end)  # or refuses it
            allowed.add(key)
        named._names[name] = place(index, end)
        items = list.__getitem__(named, index if end is None else slice(index, end))
        setattr(named, name, items if end is None else iocontainers.Namedlist(toclone=items))

    return name_items


class _InTurn:
    """A group of tasks that are done one after the other, at its end."""

    def __init__(self) -> None:
        self._tasks: list[Coroutine] = []

    async def __aenter__(self) -> _InTurn:
        return self

    def create_task(self, task: Coroutine) -> None:
        """Add a task."""
        self._tasks.append(task)

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        tasks, self._tasks = iter(self._tasks), []
        try:
            for task in tasks:
                if error:
                    task.close()
                else:
                    await task
        finally:
            for task in tasks:  # after one that failed
                task.close()


def _in_turn(update: Callable, module: Any) -> Callable:
    """Return a function that updates which jobs are to run, its tasks one after the other."""

    @functools.wraps(update)
    async def get(plan: Any, *args: Any, **kwargs: Any) -> None:
        module.asyncio = SimpleNamespace(**vars(asyncio) | {"TaskGroup": _InTurn})
        try:
            await update(plan, *args, **kwargs)
        finally:
            module.asyncio = asyncio

    return get


def _of_rule(specify: Callable) -> Callable:
    """Return a function that gives the environment of a job, without its params where it can."""

    def get(job: Any) -> Any:
        if job._conda_env_spec is None and not callable(job.rule._conda_env):
            job._conda_env_spec = job.rule.expand_conda_env(job.wildcards_dict)
        return specify(job) if callable(job.rule._conda_env) else job._conda_env_spec

    return get


def _sharing_empty_sets(initialise: Callable) -> Callable:
    """Return a function that makes a job, whose empty sets are all the same."""

    @functools.wraps(initialise)
    def begin(job: Any, *args: Any, **kwargs: Any) -> None:
        initialise(job, *args, **kwargs)
        for name in SETS_OF_JOB:
            if not getattr(job, name):
                setattr(job, name, EMPTY)

    return begin


def _forgetting_params(changed: Callable) -> Callable:
    """Return a function that compares the params of a job as before, and keeps no equal ones."""

    @functools.wraps(changed)
    def compare(persistence: Any, job: Any, file: Any = None) -> Any:
        changes = changed(persistence, job, file)
        if not changes and not job.is_group():
            job._params = job._non_derived_params = None
        return changes

    return compare


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
    """Return a function that gathers what is printed of a job only where it is printed.

    Of a job that does not run after it nothing of this is kept.
    """

    @functools.wraps(log_info)
    def log(job: Any, *args: Any, **kwargs: Any) -> None:
        workflow = job.dag.workflow
        if Quietness.RULES not in (workflow.output_settings.quiet or ()):
            log_info(job, *args, **kwargs)
            if workflow.dryrun:
                job._params = job._non_derived_params = None

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
