"""All that is taken from Snakemake beyond its documented interface, in one file.

- `workflow.overwrite_configfiles`, `workflow.configfiles`: the study file in use, for messages and
  because paths in it are relative to it; a Snakefile is not told otherwise.
- `workflow.is_main_process`: jobs read the Snakefile, too; what concerns a whole run is for its
  first process alone.
- `workflow.deployment_settings`: whether jobs run in conda environments and find this package.
- `snakemake.logging.logger`: its events say which jobs failed; there is no hook for that.
- `snakemake.exceptions.LockException`: replaced, so that who holds the lock is said in three lines.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snakemake import exceptions
from snakemake.logging import logger
from snakemake.shell import shell

from her2pipe.errors import Her2Error
from her2pipe.workflow import run_log
from her2pipe.workflow.study import Study

Workflow = Any  # snakemake.workflow.Workflow


def study_file(workflow: Workflow) -> str:
    """Return the study file in use."""
    files = workflow.overwrite_configfiles or workflow.configfiles
    return str(files[-1]) if files else "the command line"


def load_study(config: Mapping[str, Any], workflow: Workflow) -> Study:
    """Check the study that a run was given.

    Raises
    ------
    WorkflowError
        With the three lines of each mistake, as Snakemake prints it without a traceback.
    """
    try:
        return Study.load(config, study_file(workflow), check_files=workflow.is_main_process)
    except Her2Error as mistake:
        raise exceptions.WorkflowError(str(mistake)) from None


def prepare(workflow: Workflow) -> run_log.FailureHandler:
    """Let jobs find the package, listen for failures, and explain a lock; return the listener."""
    # Rules call the her2pipe beside this Python. In a conda environment of their own they call
    # that environment's Python, which finds the package where the Snakefile is: on the shared file
    # system.
    if "conda" in map(str, workflow.deployment_settings.deployment_method):
        shell.prefix(
            f"export PYTHONPATH={shlex.quote(str(workflow.basedir))};"
            ' her2pipe() {{ python -m her2pipe.cli "$@"; }}; '
        )
    else:
        folder = shlex.quote(str(Path(sys.executable).parent))
        shell.prefix(f"export PATH={folder}:$PATH; ")
    failures = run_log.FailureHandler()
    if workflow.is_main_process:
        logger.addHandler(failures)
        exceptions.LockException = _lock_error
    return failures


def _lock_error() -> exceptions.WorkflowError:
    return exceptions.WorkflowError(str(run_log.lock_owner()))


def report_failures(failures: run_log.FailureHandler) -> None:
    """Write the table of failures and print why jobs failed, after Snakemake's own words."""
    print(run_log.finish(failures) or run_log.OUTSIDE, file=sys.stderr)
