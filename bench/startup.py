"""What a job costs beyond its work: processor time of each verb on a cohort of four small slides.

    bench/startup.py [--rounds 3] [--only VERB ...] [--beside /another/checkout/.venv/bin/python]
                     [--quick]

Each verb runs in a process of its own and as a fork of the server of a run (`her2pipe/job_server`);
`--beside` runs it in turn by another checkout, too, as before a change.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from her2pipe.job_server import client, server

CALL = "import sys; from her2pipe.cli import main; sys.exit(main())"
SLIDES = ("S1", "S2", "S3", "S4")
STORES = [f"tile/{slide}.h5" for slide in SLIDES]
TRAIN = ["--architecture", "test_resnet", "--weights", "none", "--input-px", "32"]
TRAIN += ["--max-epochs", "1", "--frozen", "--device", "cpu"]
VERBS = {
    "synthesise": ["synthesise", "again.svs", "--width-um", "300", "--height-um", "300"],
    "tile": ["tile", "S1.svs", "again.h5", "--view", "256", "--patch-px", "64"],
    "encode": ["encode", *STORES, "encode", "--model", "encoder", "--device", "cpu"],
    "score, by a formula": ["score", "encode", "A.tsv", "--sheet", "sheet.tsv"],
    "score, by a network": [
        *("score", "encode", "clam.tsv", "--sheet", "sheet.tsv"),
        *("--aggregate", "clam", "--model", "clam"),
    ],
    "evaluate": ["evaluate", "A.tsv", "evaluate", "--sheet", "sheet.tsv", "--encoding", "encode"],
    "ledger": ["ledger", "A.tsv", "ledger.tsv", "--sheet", "A=sheet.tsv"],
}
FIT = ["fit", "encode", "clam", "--sheet", "sheet.tsv", "--aggregate", "clam", "--folds", "1"]
FIT += ["--max-epochs", "1", "--min-epochs", "0", "--device", "cpu"]


def call(words: list[str], python: str = sys.executable) -> float:
    """Run Python on words, and return the processor time of this process's children, s."""
    before = children()
    done = subprocess.run([python, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr}")
    return children() - before


def children() -> float:
    """Return the processor time of all children that have ended, s."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def prepare() -> None:
    """Make slides, stores, a network and a fit in the working directory."""
    lines, steps = ["slide\tpath\tpatient\ther2\tsplit"], []
    for number, slide in enumerate(SLIDES):
        words = ["--seed", str(number + 1), "--severity", "4" if number % 2 else "0"]
        steps.append(["synthesise", f"{slide}.svs", "--xml", f"{slide}.xml", *words])
        steps[-1] += VERBS["synthesise"][2:]
        steps.append(["tile", f"{slide}.svs", f"tile/{slide}.h5", *VERBS["tile"][3:]])
        steps[-1] += ["--annotation", f"{slide}.xml"]
        status, side = ("negative", "positive")[number % 2], ("train", "validation")[number // 2]
        lines.append(f"{slide}\t{slide}.svs\tP{slide}\t{status}\t{side}")
    Path("sheet.tsv").write_text("\n".join(lines) + "\n")
    steps += [["train", *STORES, "encoder", "--sheet", "sheet.tsv", *TRAIN], VERBS["encode"], FIT]
    code = "import sys, json; from her2pipe.cli import main"
    call(["-c", f"{code}; sys.exit(any(map(main, json.loads(sys.argv[1]))))", json.dumps(steps)])


def as_fork(words: list[str], jobs: int = 2) -> float:
    """Return the processor time of a job that a server forks, its client's included, s."""
    totals = []
    for count in (2, 2 + jobs):  # the first does its work itself, a parent is made for the second
        before = children()
        run = server.start()
        for _ in range(count):
            call(["-c", CALL, *words])
        server.close(run)
        totals.append(children() - before)
    return (totals[1] - totals[0]) / jobs


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="verbs to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", help="Python of another checkout")
    parser.add_argument("--quick", action="store_true", help="one round, two verbs as forks")
    args = parser.parse_args()
    forked = ("ledger", "score, by a formula") if args.quick else tuple(VERBS)
    args.rounds = 1 if args.quick else args.rounds
    os.environ |= {"OMP_NUM_THREADS": "1", client.SERVER: client.OFF}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare()
        print(f"CPU s, median of {args.rounds}       before   now   as a fork")
        jobs = {"import of her2pipe.config": ["-c", "import her2pipe.config"]}
        jobs |= {name: ["-c", CALL, *words] for name, words in VERBS.items()}
        for name, words in jobs.items():
            if args.only and not any(name.startswith(verb) for verb in args.only):
                continue
            before, now = [], []
            for _ in range(args.rounds):
                with suppress(SystemExit):  # it may not read what this checkout has made
                    before += [call(words, args.beside)] if args.beside else []
                now.append(call(words))
            columns = [f"{statistics.median(before):8.2f}" if before else " " * 8]
            columns.append(f"{statistics.median(now):8.2f}")
            if name in forked:
                del os.environ[client.SERVER]
                columns.append(f"{as_fork(VERBS[name]):8.2f}")
                os.environ[client.SERVER] = client.OFF
            print(f"{name:<28}{''.join(columns)}", flush=True)


if __name__ == "__main__":
    main()
