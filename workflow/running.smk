# What concerns a run as a whole: how rules find the package, who is at work, and what failed.

import shlex
import sys
from pathlib import Path

from snakemake import exceptions
from snakemake.logging import logger

from her2pipe.workflow import run_log as runs

# Rules call the her2pipe beside this Python. In a conda environment of their own they call that
# environment's Python, which finds the package where this file is: on the shared file system.
if "conda" in map(str, workflow.deployment_settings.deployment_method):
    shell.prefix(
        f"export PYTHONPATH={shlex.quote(str(workflow.basedir))};"
        ' her2pipe() {{ python -m her2pipe.cli "$@"; }}; '
    )
else:
    shell.prefix(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; ")

# A job reads this file, too; what concerns the whole run is for the first process alone.
MAIN = workflow.is_main_process
WATCH = runs.Watch()
if MAIN:
    logger.addHandler(WATCH)
    exceptions.LockException = lambda: exceptions.WorkflowError(str(runs.at_work()))


onstart:
    runs.begin()


onsuccess:
    runs.end(WATCH)


onerror:
    print(runs.end(WATCH) or runs.OUTSIDE, file=sys.stderr)
