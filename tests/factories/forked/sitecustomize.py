"""On PYTHONPATH, this hands jobs of rules to the server of `process_server.py` and ends.

So it does with the process that builds a study's networks before anything runs. It is imported by
every Python that starts, so it loads little.
"""

import os
import sys

BUILDABLE = "her2pipe.workflow.networks.buildable"

if "HER2PIPE_PROCESS_SERVER" in os.environ:
    is_job, is_built = sys.argv[0].endswith("/her2pipe"), sys.orig_argv[1:3] == ["-m", BUILDABLE]
    if is_job or is_built:
        sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))
        from process_client import COMMAND, run

        module = f"import her2pipe.cli, runpy; runpy.run_module({BUILDABLE!r}, run_name='__main__')"
        code, words = (COMMAND, sys.argv) if is_job else (module, sys.orig_argv[2:])
        os._exit(run(os.environ["HER2PIPE_PROCESS_SERVER"], code, words))
