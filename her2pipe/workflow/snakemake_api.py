"""All that is taken from Snakemake beyond its documented interface.

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
- `workflow.local_exec`: whether jobs run on this machine.
- what is replaced to take less time, in `quick`.
"""

from __future__ import annotations

import atexit
import logging
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake import exceptions
from snakemake.logging import logger
from snakemake.shell import shell

from her2pipe.errors import Her2Error, raise_all
from her2pipe.installation import location
from her2pipe.job_server import server
from her2pipe.workflow import preflight, resources, run_log, run_progress
from her2pipe.workflow.quick import benchmarks, is_known, scheduling
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
MISSING = re.compile(r"(\S.*) \(missing ")  # a line for each output that is


class StudyError(exceptions.WorkflowError):
    """A mistake in a study: Snakemake prints its three lines, and no stack of our own code."""

    @property
    def __traceback__(self) -> None:
        """Hide where it was raised: the user's mistake stands in the study, not in a program."""
        return None


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
        shell.prefix(_path())

    def begin() -> None:
        start()
        if is_known():
            scheduling.schedule_quickly()
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


def _path() -> str:
    """Return the words of a shell that has the commands beside this Python."""
    return f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "


def _serve_jobs(workflow: Workflow) -> None:
    """Start a server for jobs that this process starts with the libraries it has itself."""
    is_here = workflow.is_main_process and workflow.local_exec
    if is_known() and is_here and not _in_environments(workflow):
        run = server.start()
        atexit.register(server.close, run)
        if run:
            shell.prefix(_path() + server.shell_function().replace("{", "{{").replace("}", "}}"))
        benchmarks.measure_forks()


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
