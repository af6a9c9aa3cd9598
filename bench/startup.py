"""What a job costs beyond its work: processor time of each verb on a cohort of four small slides.

    bench/startup.py [--rounds 3] [--only VERB ...] [--quick]

Each verb runs in a process of its own and as a fork of the server of a run (`her2pipe/job_server`).
`bench/versions.py` runs the same verbs by another checkout, too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
from pathlib import Path

from _checkouts import CALL, Checkout

from her2pipe.job_server import client, server

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


def children() -> float:
    """Return the processor time of all children that have ended, s."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def prepare(checkout: Checkout, folder: Path) -> None:
    """Make slides, stores, a network, encodings, a fit and scores in a folder."""
    lines, steps = ["slide\tpath\tpatient\ther2\tsplit"], []
    for number, slide in enumerate(SLIDES):
        words = ["--seed", str(number + 1), "--severity", "4" if number % 2 else "0"]
        steps.append(["synthesise", f"{slide}.svs", "--xml", f"{slide}.xml", *words])
        steps[-1] += VERBS["synthesise"][2:]
        steps.append(["tile", f"{slide}.svs", f"tile/{slide}.h5", *VERBS["tile"][3:]])
        steps[-1] += ["--annotation", f"{slide}.xml"]
        status, side = ("negative", "positive")[number % 2], ("train", "validation")[number // 2]
        lines.append(f"{slide}\t{slide}.svs\tP{slide}\t{status}\t{side}")
    (folder / "sheet.tsv").write_text("\n".join(lines) + "\n")
    steps += [["train", *STORES, "encoder", "--sheet", "sheet.tsv", *TRAIN], VERBS["encode"], FIT]
    steps.append(VERBS["score, by a formula"])
    code = "import sys, json; from her2pipe.cli import main"
    words = [f"{code}; sys.exit(any(map(main, json.loads(sys.argv[1]))))", json.dumps(steps)]
    checkout.run(["-c", *words], folder)


def as_fork(words: list[str], folder: Path, jobs: int = 8) -> float:
    """Return the processor time of a job that a server forks, its client's included, s."""
    totals = []
    for count in (2, 2 + jobs):  # with the first two a parent is made, and learns what they import
        before = children()
        run = server.start()
        for _ in range(count):
            Checkout.here().her2pipe(words, folder)
        server.close(run)
        totals.append(children() - before)
    return (totals[1] - totals[0]) / jobs


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="verbs to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, two verbs as forks")
    args = parser.parse_args()
    forked = ("ledger", "score, by a formula") if args.quick else tuple(VERBS)
    args.rounds = 1 if args.quick else args.rounds
    os.environ |= {"OMP_NUM_THREADS": "1", client.SERVER: client.OFF}
    with tempfile.TemporaryDirectory() as place:
        folder, here = Path(place), Checkout.here()
        prepare(here, folder)
        print(f"CPU s, median of {args.rounds}     a process   a fork")
        jobs = {"import of her2pipe.config": ["-c", "import her2pipe.config"]}
        jobs |= {name: ["-c", CALL, *words] for name, words in VERBS.items()}
        for name, words in jobs.items():
            if args.only and not any(name.startswith(verb) for verb in args.only):
                continue
            seconds = [here.run(words, folder).cpu_s for _ in range(args.rounds)]
            columns = [f"{statistics.median(seconds):8.2f}"]
            if name in forked:
                del os.environ[client.SERVER]
                columns.append(f"{as_fork(VERBS[name], folder):8.2f}")
                os.environ[client.SERVER] = client.OFF
            print(f"{name:<28}{''.join(columns)}", flush=True)


if __name__ == "__main__":
    main()
