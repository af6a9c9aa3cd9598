"""All that is taken from Snakemake beyond its documented interface, in one file.

- `workflow.overwrite_configfiles`, `workflow.configfiles`: the study file in use, for messages and
  because paths in it are relative to it; a Snakefile cannot know it otherwise.
- `workflow.is_main_process`: jobs read the Snakefile, too; what concerns a whole run is for its
  first process alone.
- `workflow.deployment_settings`: whether jobs run in conda environments and find this package.
- `snakemake.logging.logger`: its events say which jobs failed; there is no hook for that.
- `logger`'s stream handler, `workflow.output_settings` and `workflow.dryrun`: where a profile
  says `quiet: host`, one line of progress stands in place of Snakemake's block for every job.
- `record.input` and `record.output` of its event `job_info`: shortened, for a dry run would print
  hundreds of paths for a job.
- `workflow.rules` and their `resources`: a profile may give one by the name of another.
- `snakemake.exceptions.LockException`: replaced, so that who holds the lock is said in three lines.
- `snakemake.common.get_function_params`: its answers are kept. Snakemake asks 30 times per job for
  the parameters of the same few functions, which was a sixth of the time of planning.
- `snakemake.io.is_flagged` and `IOFile`, the hash and equality of its files, `Job.shellcmd`,
  `Rule.expand_resources`, and `AttributeGuard` of its lists: the same answers by a shorter way, as
  plans ask millions of times;
  `Job.log_info`: not asked where `--quiet rules` prints nothing of jobs. A third of the time of
  planning.
- `workflow.local_exec`, and `main` of `snakemake.benchmark.BenchmarkTimer`, the process it measures
  with its children: the forks that work for a job are none of these, and are measured, too.
"""

from __future__ import annotations

import atexit
import functools
import gc
import logging
import re
import shlex
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import snakemake
from snakemake import benchmark, common, exceptions, io, iocontainers, jobs, rules
from snakemake.logging import logger
from snakemake.settings.types import Quietness
from snakemake.shell import shell

from her2pipe import deferred, location
from her2pipe.errors import Her2Error, raise_all
from her2pipe.job_server import server
from her2pipe.workflow import preflight, resources, run_log, run_progress
from her2pipe.workflow.study import Study

Workflow = Any  # snakemake.workflow.Workflow
QUIET = "host"  # the setting of `quiet` that asks for a line of progress
STREAM = "DefaultStreamHandler"
# Events and words of Snakemake that say of single jobs what the line of progress says of all.
OF_JOBS = {"job_info", "group_info", "job_started", "job_finished", "progress", "shellcmd"}
WORDS_OF_JOBS = ("Select jobs to execute", "Execute ", "Finished jobid", "Storing output in")
LATE = re.compile(r"MissingOutputException in rule (\w+).*\n\s*Job (\d+) completed", re.DOTALL)
SHOWN = 4  # files of a job that a dry run names
LONGEST_REASON = 400  # characters of why a job runs
# Snakemake's inner functions are known of these; any other version plans in its own, slower way.
KNOWN_VERSIONS = ("9.27.",)
MISSING = re.compile(r"(\S.*) \(missing ")  # a line for each output that is


class StudyError(exceptions.WorkflowError):
    """A mistake in a study: Snakemake prints its three lines, and no stack of our own code."""

    @property
    def __traceback__(self) -> None:
        """Hide where it was raised: the user's mistake stands in the study, not in a program."""
        return None


def plan_quickly() -> None:
    """Take from planning what is repeated for every job; plans stay the same."""
    # A plan is millions of objects that stay, and no garbage.
    gc.set_threshold(max(gc.get_threshold()[0], deferred.COLLECTED_OBJECTS))
    ask = getattr(common, "get_function_params", None)
    if ask and not hasattr(ask, "__wrapped__"):
        for module in (common, rules):
            module.get_function_params = kept(ask)
    if snakemake.__version__.startswith(KNOWN_VERSIONS) and io.is_flagged is not is_flagged:
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


def study_file(workflow: Workflow) -> str:
    """Return the study file in use."""
    files = workflow.overwrite_configfiles or workflow.configfiles
    return str(files[-1]) if files else "the command line"


def load_study(config: Mapping[str, Any], workflow: Workflow) -> Study:
    """Check the study that a run was given.

    Raises
    ------
    StudyError
        With the three lines of each mistake.
    """
    is_main = workflow.is_main_process
    try:
        study = Study.load(config, study_file(workflow), check_files=is_main)
        if is_main:
            libraries = [] if _in_environments(workflow) else preflight.missing_libraries(study)
            raise_all([*preflight.problems(study), *libraries])
    except Her2Error as mistake:
        raise StudyError(str(mistake)) from None
    if is_main:
        for line in preflight.as_lines(preflight.notes(study)):
            logger.info(line)
    return study


def _in_environments(workflow: Workflow) -> bool:
    """Whether jobs run with other libraries than this process."""
    return bool(workflow.deployment_settings.deployment_method)


class StartHandler(logging.Handler):
    """Calls a function once, before the first job of a run.

    Snakemake calls `onstart` of the main Snakefile alone, and never that of a module.
    """

    def __init__(self, start: Callable[[], None]) -> None:
        super().__init__()
        self._start, self._started = start, False

    def emit(self, record: Any) -> None:
        """Take in one event: a dry run starts no job."""
        if _event(record) == "job_started":
            self.begin()

    def begin(self) -> None:
        """Call the function, unless it was called before."""
        if not self._started:
            self._started = True
            self._start()


class FailureHandler(logging.Handler):
    """Listens to Snakemake's log for jobs that fail, and for those that succeed after all."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = run_log.Failures()
        self.killed: list[str] = []

    def emit(self, record: Any) -> None:
        """Take in one event."""
        event, text = _event(record), str(record.msg)
        if "died with <Signals" in text:  # an event of its own, before the job's error
            self.killed.append(text)
        elif event == "error" and (late := LATE.search(text)):
            self.failures.add([int(late[2])], [late[1]], MISSING.findall(text), [], text)
        elif event == "job_finished":
            self.failures.remove(record.job_id)
        elif event == "job_error" and not record.indent:  # indented: a member of a group
            message = "\n".join([record.rule_msg or "", *self._signal(record.log)])
            self.failures.add(
                [record.jobid], [record.rule_name], record.output, record.log, message
            )
        elif event == "group_error":
            jobs = record.job_error_info
            logs = [*record.aux_logs, *(log for job in jobs for log in job["log"])]
            self.failures.add(
                [job["jobid"] for job in jobs],
                [job["rule_name"] for job in jobs],
                [output for job in jobs for output in job["output"]],
                logs,
                "\n".join(["", *self._signal(logs)]),
            )

    def _signal(self, logs: Iterable[object]) -> list[str]:
        """Return the message that a job's process was killed; its command names the job's log."""
        names = list(map(str, logs))
        return [text for text in self.killed if any(name in text for name in names)][-1:]


class ProgressHandler(logging.Handler):
    """Listens to Snakemake's log for jobs that begin and end."""

    def __init__(self, workflow: Workflow, study: Study) -> None:
        super().__init__()
        self.line = run_progress.ProgressLine()
        self._workflow, self._study = workflow, study

    @property
    def is_shown(self) -> bool:
        """Whether this run asks for a line of progress."""
        settings = self._workflow.output_settings
        quiet = {each.name.lower() for each in settings.quiet or ()}
        wordy = settings.verbose or settings.printshellcmds
        return QUIET in quiet and not wordy and not self._workflow.dryrun

    def emit(self, record: Any) -> None:
        """Take in one event, and show what it changes."""
        event = _event(record)
        progress, now = self.line.progress, time.time()
        if not self.is_shown:
            return
        if event == "run_info":
            progress.plan(record.stats)
            self.line.begin()
            return
        if event == "job_info":
            progress.start(record.jobid, self._job(record, now))
        elif event == "job_finished":
            progress.finish(record.job_id, now)
        elif event == "job_error":
            progress.fail([record.jobid])
        elif event == "group_error":
            progress.fail(job["jobid"] for job in record.job_error_info)
        else:
            return
        self.line.show()

    def _job(self, record: Any, now: float) -> run_progress.RunningJob:
        """Describe a job by its rule and wildcards: a slide by its name alone."""
        values = dict(record.wildcards or {})
        name = values.get("slide") or " ".join(
            str(value) for key, value in values.items() if key != "view"
        )
        log = next(iter(map(str, record.log or [])), "")
        epochs = self._epochs(record.rule_name, name)
        return run_progress.RunningJob(record.rule_name, name, now, log, epochs)

    def _epochs(self, step: str, name: str) -> int:
        """Return the most epochs of a training, 0 where it is not known."""
        settings = self._study.settings
        if step == "train" and name in settings.encoders:
            return settings.encoders[name].max_epochs
        if step == "pretrain" and name in settings.pretrainings:
            return settings.pretrainings[name].epochs
        return 0


class OneLine(logging.Filter):
    """Keeps from the terminal what Snakemake says of single jobs; its log file has it all."""

    def __init__(self, handler: ProgressHandler) -> None:
        super().__init__()
        self._handler = handler

    def filter(self, record: Any) -> bool:
        """Let an event pass unless the line of progress stands for it."""
        if not self._handler.is_shown:
            return True
        if _event(record) in OF_JOBS or str(record.msg).startswith(WORDS_OF_JOBS):
            return False
        self._handler.line.make_room()
        return True


def _event(record: Any) -> str:
    event = getattr(record, "event", None)
    return str(getattr(event, "value", event))


class FoldedLists(logging.Filter):
    """Folds what a dry run says of a job with hundreds of files: the first ones, and how many."""

    def filter(self, record: Any) -> bool:
        """Shorten the lists of an event that describes a job; let every event pass."""
        if _event(record) == "job_info":
            for name in ("input", "output"):
                files = list(getattr(record, name, None) or [])
                if len(files) > SHOWN + 1:
                    more = f"... and {len(files) - SHOWN} more"
                    setattr(record, name, [*files[:SHOWN], more])
            reason = str(getattr(record, "reason", None) or "")
            if len(reason) > LONGEST_REASON:
                files_named = reason.count(", ") + 1
                whole = reason[:LONGEST_REASON].rpartition(", ")[0] or reason[:LONGEST_REASON]
                record.reason = f"{whole}, ... ({files_named} in all)"
        return True


@dataclass(frozen=True)
class Listeners:
    """What listens to the log of a run: for its first job, for failures, and for progress."""

    start: StartHandler
    failures: FailureHandler
    progress: ProgressHandler

    def end(self) -> None:
        """End the line of progress, if this process shows one."""
        if self.progress in logger.handlers:
            self.progress.line.end()


def prepare(workflow: Workflow, study: Study, start: Callable[[], None]) -> Listeners:
    """Let jobs find the package, listen to the log, and explain a lock; return the listeners.

    `start` is called before the first job of a run.
    """
    # Rules call the her2pipe beside this Python. In a conda environment of their own they call
    # that environment's Python, which finds the package on the shared file system.
    deployed = set(map(str, workflow.deployment_settings.deployment_method))
    if "conda" in deployed:
        shell.prefix(
            f"export PYTHONPATH={shlex.quote(str(location.import_path()))};"
            ' her2pipe() {{ python -m her2pipe.cli "$@"; }}; '
        )
    elif "apptainer" not in deployed:  # an image has a her2pipe of its own
        folder = shlex.quote(str(Path(sys.executable).parent))
        shell.prefix(f"export PATH={folder}:$PATH; ")

    def begin() -> None:
        start()
        _serve_jobs(workflow)

    listeners = Listeners(StartHandler(begin), FailureHandler(), ProgressHandler(workflow, study))
    if workflow.is_main_process:
        logger.addFilter(FoldedLists())
        for handler in logger.handlers:
            if handler.name == STREAM:
                handler.addFilter(OneLine(listeners.progress))
        logger.addHandler(listeners.start)
        logger.addHandler(listeners.failures)
        logger.addHandler(listeners.progress)
        exceptions.LockException = _lock_error
    return listeners


def _serve_jobs(workflow: Workflow) -> None:
    """Start a server for jobs that this process starts with the libraries it has itself."""
    is_known = snakemake.__version__.startswith(KNOWN_VERSIONS)
    is_here = workflow.is_main_process and workflow.local_exec
    if is_known and is_here and not _in_environments(workflow):
        atexit.register(server.close, server.start())
        benchmark.BenchmarkTimer.__init__ = _measuring_forks(benchmark.BenchmarkTimer.__init__)


def _measuring_forks(initialise: Callable) -> Callable:
    """Return a method that has a timer measure the forks that work for a job, too."""
    import psutil

    class Tree(psutil.Process):
        """A process whose children are joined by what the server has forked for them."""

        def children(self, recursive: bool = False) -> list[psutil.Process]:
            """Return the processes below, those of the server among them."""
            processes = super().children(recursive)
            for client in (self.pid, *(process.pid for process in processes)):
                with suppress(psutil.NoSuchProcess):
                    if job := server.job_of(client):
                        fork = psutil.Process(job)
                        processes += [fork, *fork.children(recursive)]
            return processes

    @functools.wraps(initialise)
    def start(timer: Any, pid: int, *args: Any, **kwargs: Any) -> None:
        initialise(timer, pid, *args, **kwargs)
        timer.main = Tree(pid)

    return start


def _lock_error() -> exceptions.WorkflowError:
    return exceptions.WorkflowError(str(run_log.lock_owner()))


def link_resources(workflow: Workflow) -> None:
    """Translate what the rules ask for into the words of the executor, as the profile says."""
    for rule in workflow.rules:
        resources.link(rule.resources)


def succeed(listeners: Listeners) -> None:
    """End a run that went well: no table of failures is left of an earlier one."""
    listeners.end()
    run_log.finish(listeners.failures.failures)


def report_failures(listeners: Listeners) -> None:
    """Write the table of failures and print why jobs failed, after Snakemake's own words."""
    listeners.end()
    print(run_log.finish(listeners.failures.failures) or run_log.OUTSIDE, file=sys.stderr)
