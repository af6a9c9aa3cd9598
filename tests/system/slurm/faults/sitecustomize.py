"""Faults for tests: on PYTHONPATH, this makes chosen her2pipe jobs fail in a given way.

A file `faults/VERB-SLIDE` in the working directory holds one word per attempt that goes wrong:
memory, time, wait or exit. Each attempt takes the first word away; without one all is well.
"""

import os
import sys
import time
from pathlib import Path


def fault(words):
    """Take the next fault of this command's verb and slide, if one is waiting."""
    for file in Path("faults").glob("*-*"):
        verb, slide = file.name.split("-", 1)
        if words[1:2] == [verb] and any(slide in Path(word).stem for word in words[2:]):
            kinds = file.read_text().split()
            if kinds:
                file.write_text(" ".join(kinds[1:]))
                return kinds[0]
    return ""


command = [Path(word).name for word in sys.orig_argv]
if "her2pipe" in command and Path("faults").is_dir():
    kind = fault(["her2pipe", *sys.orig_argv[command.index("her2pipe") + 1 :]])
    if kind:
        print(f"fault: {kind}", file=sys.stderr, flush=True)
        held = bytearray(os.urandom(1 << 20)) * 3000 if kind == "memory" else None
        if kind == "exit":
            os._exit(3)
        time.sleep(600)
