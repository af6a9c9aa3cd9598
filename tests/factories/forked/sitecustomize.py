"""On PYTHONPATH, this hands jobs of rules to the server of `process_server.py` and ends.

It is imported by every Python that starts, so it loads little, and only for `her2pipe STEP ...`.
"""

import os
import sys

if "HER2PIPE_PROCESS_SERVER" in os.environ and sys.argv[0].endswith("/her2pipe"):
    sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))
    from process_client import COMMAND, run

    os._exit(run(os.environ["HER2PIPE_PROCESS_SERVER"], COMMAND, sys.argv))
