"""All that is taken from Snakemake beyond its documented interface, in one file.

- `workflow.overwrite_configfiles`, `workflow.configfiles`: the study file in use, for messages and
  because paths in it are relative to it; a Snakefile cannot know it otherwise.
- `workflow.is_main_process`: jobs read the Snakefile, too; what concerns a whole run is for its
  first process alone.
- `workflow.deployment_settings`: whether jobs run in conda environments and find this package.
- `snakemake.logging.logger`: its events say which jobs failed; there is no hook for that.
- `record.input` and `record.output` of its event `job_info`: shortened, for a dry run would print
  hundreds of paths for a job.
- `snakemake.exceptions.LockException`: replaced, so that who holds the lock is said in three lines.
- `snakemake.common.get_function_params`: its answers are kept. Snakemake asks 30 times per job for
  the parameters of the same few functions, which was a sixth of the time of planning.
"""

from __future__ import annotations

import functools
import gc
import logging
import re
import shlex
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from snakemake import common, exceptions, rules
from snakemake.logging import logger
from snakemake.shell import shell

from her2pipe import deferred, location
from her2pipe.errors import Her2Error, raise_all
from her2pipe.workflow import preflight, run_log
from her2pipe.workflow.study import Study

Workflow = Any  # snakemake.workflow.Workflow
LATE = re.compile(r"MissingOutputException in rule (\w+).*\n\s*Job (\d+) completed", re.DOTALL)
SHOWN = 4  # files of a job that a dry run names
LONGEST_REASON = 400  # characters of why a job runs
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


class FailureHandler(logging.Handler):
    """Listens to Snakemake's log for jobs that fail, and for those that succeed after all.

    It also listens for the first job, ahead of which `start` is called: Snakemake calls `onstart`
    of the main Snakefile alone, and never that of a module.

    Parameters
    ----------
    start : callable, optional
        What is to be done once, before the first job.
    """

    def __init__(self, start: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.failures = run_log.Failures()
        self.killed: list[str] = []
        self._start, self._started = start, False

    def begin(self) -> None:
        """Do what is to be done before the first job, the first time this is called."""
        if not self._started:
            self._started = True
            self._start()

    def emit(self, record: Any) -> None:
        """Take in one event."""
        event = getattr(record, "event", None)
        event, text = str(getattr(event, "value", event)), str(record.msg)
        if event == "job_started":
            self.begin()
        elif "died with <Signals" in text:  # an event of its own, before the job's error
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


class FoldedLists(logging.Filter):
    """Folds what a dry run says of a job with hundreds of files: the first ones, and how many."""

    def filter(self, record: Any) -> bool:
        """Shorten the lists of an event that describes a job; let every event pass."""
        event = getattr(record, "event", None)
        if str(getattr(event, "value", event)) == "job_info":
            for name in ("input", "output"):
                files = list(getattr(record, name, None) or [])
                if len(files) > SHOWN + 1:
                    more = f"... and {len(files) - SHOWN} more"
                    setattr(record, name, [*files[:SHOWN], more])
            reason = str(getattr(record, "reason", None) or "")
            if len(reason) > LONGEST_REASON:
                files_named = reason.count(", ") + 1
                record.reason = f"{reason[:LONGEST_REASON]}... ({files_named} in all)"
        return True


def prepare(workflow: Workflow, start: Callable[[], None]) -> FailureHandler:
    """Let jobs find the package, listen for failures, and explain a lock; return the listener.

    `start` is called in a run that is no dry run, before its first job.
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
    handler = FailureHandler(start)
    if workflow.is_main_process:
        logger.addFilter(FoldedLists())
        logger.addHandler(handler)
        exceptions.LockException = _lock_error
    return handler


def _lock_error() -> exceptions.WorkflowError:
    return exceptions.WorkflowError(str(run_log.lock_owner()))


def report_failures(handler: FailureHandler) -> None:
    """Write the table of failures and print why jobs failed, after Snakemake's own words."""
    print(run_log.finish(handler.failures) or run_log.OUTSIDE, file=sys.stderr)
