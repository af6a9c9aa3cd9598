"""What a dry run says of a job with hundreds of files."""

import logging

from her2pipe.workflow.snakemake_api import LONGEST_REASON, FoldedLists


def record(**values):
    event = logging.LogRecord("snakemake", logging.INFO, "", 0, "", (), None)
    event.__dict__.update(values)
    return event


def test_long_lists_are_folded():
    files = [f"results/tile/adaptive/A/A-{i}.h5" for i in range(300)]
    event = record(event="job_info", input=files, output=files[:2], reason=", ".join(files))
    assert FoldedLists().filter(event)
    assert event.input == [*files[:4], "... and 296 more"]
    assert event.output == files[:2]
    assert len(event.reason) < LONGEST_REASON + 20
    *named, count = event.reason.split(", ")
    assert count == "... (300 in all)"
    assert named[-1] in files  # no name is cut


def test_failures_keep_their_files():
    files = [f"{i}" for i in range(300)]
    event = record(event="job_error", output=files)
    assert FoldedLists().filter(event)
    assert event.output == files
