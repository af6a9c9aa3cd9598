"""Records of runs: which process is at work, and which jobs failed and why."""

import json
import logging
import os
import subprocess
import sys

import pytest

from her2pipe.files import read_table
from her2pipe.workflow import run_log
from her2pipe.workflow.run_log import Failures
from her2pipe.workflow.snakemake_api import FailureHandler, StartHandler


def record(event, **more):
    made = logging.LogRecord("snakemake", logging.ERROR, "", 0, "said", (), None)
    vars(made).update(event=event, **more)
    return made


def error(jobid, logs, message="", output="results/tile/64/A/A-1.h5", indent=False):
    return record(
        "job_error",
        jobid=jobid,
        rule_name="tile",
        rule_msg=message,
        output=[output],
        log=logs,
        indent=indent,
    )


def test_a_job_that_succeeds_later_has_not_failed(tmp_path):
    handler = FailureHandler()
    handler.emit(error(3, []))
    handler.emit(error(4, []))
    handler.emit(error(3, []))
    handler.emit(record("job_finished", job_id=4))
    assert set(handler.failures.jobs) == {3}
    assert handler.failures.jobs[3].attempts == 2
    handler.emit(record("job_finished", job_id=3))
    assert run_log.finish(handler.failures, tmp_path) == ""


def test_a_run_begins_once_with_its_first_job():
    """Whether Snakemake says so by `onstart`, or, of a module, by the first job alone."""
    begun = []
    handler = StartHandler(lambda: begun.append(len(begun)))
    handler.emit(record("run_info", msg="Job stats", stats={}))
    assert begun == []
    for _ in range(2):
        handler.emit(record("job_started", jobs=[1, 2]))
    handler.begin()
    assert begun == [0]


def test_failures_are_reported_with_step_slide_reason_and_logs(tmp_path):
    (tmp_path / "logs/slurm").mkdir(parents=True)
    log = tmp_path / "logs/A-1.log"
    log.write_text("her2pipe: the slide does not exist\n  where: x\n  fix:   y\n")
    slurm = tmp_path / "logs/slurm/7.log"
    slurm.write_text("slurmstepd: error\n")
    handler = FailureHandler()
    handler.emit(error(1, [str(log), str(slurm), str(tmp_path / "none.log")]))
    assert run_log.finish(handler.failures, tmp_path).splitlines() == [
        "her2pipe: 1 job failed",
        "  tile/64/A/A-1.h5: the slide does not exist",
        "    logs/A-1.log",
        "    logs/slurm/7.log",
    ]
    assert run_log.read_failures(tmp_path) == read_table(tmp_path / run_log.FAILURES)
    assert run_log.read_failures(tmp_path)[0]["step"] == "tile"
    assert run_log.finish(Failures(), tmp_path) == ""  # the next run goes well
    assert run_log.read_failures(tmp_path) == []


@pytest.mark.parametrize(
    ("message", "log", "reason"),
    [
        ("SLURM-job '3' failed, SLURM status is: 'TIMEOUT'.", "", "over its time limit"),
        (
            "SLURM status is: 'FAILED'.",
            "error: *** JOB 3 CANCELLED AT x DUE TO TIME LIMIT ***",
            "over its time limit",
        ),
        (
            "SLURM status is: 'FAILED'.",
            "error: StepId=32.0 exceeded memory limit (2 > 1), being killed\nSTEP CANCELLED AT x",
            "out of memory",
        ),
        ("SLURM status is: 'OUT_OF_MEMORY'.", "", "out of memory"),
        (
            "SLURM status is: 'FAILED'.",
            "slurmstepd: error: Detected 1 oom_kill event in StepId=1",
            "out of memory",
        ),
        ("SLURM status is: 'NODE_FAIL'.", "", "its node failed"),
        ("SLURM status is: 'CANCELLED'.", "", "cancelled"),
        (
            "",
            "Traceback (most recent call last):\n  x\nZeroDivisionError: division by zero\n",
            "ZeroDivisionError: division by zero",
        ),
        ("", "", "no reason given; see its logs"),
        (
            "SLURM sbatch failed. The error message was 'sbatch: error: invalid partition"
            " specified: gpu\nsbatch: error: Batch job submission failed: Invalid partition name"
            " specified'.\n"
            "    sbatch call:\n        sbatch --parsable\nFor further error details see the log",
            "her2pipe: of an earlier attempt\nepoch 12\n",
            "SLURM refused it: Batch job submission failed: Invalid partition name specified",
        ),
        (
            "The cluster is closed.\nFor further error details see the cluster log",
            "",
            "The cluster is closed.",
        ),
    ],
)
def test_reasons(tmp_path, message, log, reason):
    (tmp_path / "7.log").write_text(log)
    handler = FailureHandler()
    handler.emit(error(1, [str(tmp_path / "7.log")], message))
    assert handler.failures.jobs[1].reason == reason


def test_output_that_does_not_appear_is_reported(tmp_path):
    late = record("error", exception="MissingOutputException")
    late.msg = (
        'MissingOutputException in rule tile in file "/x/tile.smk", line 2:\n'
        "Job 7 completed successfully, but some output files are missing. Missing files after 60"
        " seconds. This might be due to filesystem latency. If that is the case, consider to"
        " increase the wait time with --latency-wait:\n"
        "results/tile/64/A/A-1.h5 (missing locally, parent dir contents: A-2.h5)\n"
        "benchmarks/tile/64/A/A-1.tsv (missing locally)"
    )
    handler = FailureHandler()
    handler.emit(late)
    handler.emit(late)
    message = run_log.finish(handler.failures, tmp_path).splitlines()
    assert message == [
        "her2pipe: 1 job failed",
        "  tile/64/A/A-1.h5, benchmarks/tile/64/A/A-1.tsv: its output did not appear on the file"
        " system in time (attempt 2)",
    ]
    handler.emit(record("job_finished", job_id=7))
    assert run_log.finish(handler.failures, tmp_path) == ""


def test_a_killed_process_is_reported_from_its_command(tmp_path):
    handler = FailureHandler()
    said = record(None)
    said.msg = "Command 'her2pipe tile > logs/A-1.log' died with <Signals.SIGKILL: 9>."
    handler.emit(said)
    handler.emit(error(1, ["logs/A-1.log"]))
    handler.emit(error(2, ["logs/A-2.log"]))
    assert handler.failures.jobs[1].reason == "killed, as is done when memory runs out"
    assert handler.failures.jobs[2].reason == "no reason given; see its logs"


def test_a_group_is_one_failure(tmp_path):
    (tmp_path / "score.log").write_text("")
    (tmp_path / "evaluate.log").write_text("her2pipe: no slide has a status\n")
    jobs = [
        {
            "jobid": n,
            "rule_name": step,
            "output": [f"results/{step}/X/A"],
            "log": [str(tmp_path / f"{step}.log")],
        }
        for n, step in ((5, "score"), (6, "evaluate"))
    ]
    handler = FailureHandler()
    handler.emit(record("group_error", job_error_info=jobs, aux_logs=[]))
    handler.emit(error(5, [], indent=True))  # Snakemake tells each member again
    handler.emit(error(6, [], indent=True))
    message = run_log.finish(handler.failures, tmp_path).splitlines()
    assert message == [
        "her2pipe: 1 job failed",
        "  score/X/A, evaluate/X/A: no slide has a status",
        "    evaluate.log",
    ]


def test_nobody_is_at_work_in_a_free_folder(tmp_path):
    run_log.start(tmp_path)
    assert run_log.lock_owner(tmp_path) is None


@pytest.fixture
def locked(tmp_path):
    (tmp_path / run_log.LOCKS).mkdir(parents=True)
    (tmp_path / run_log.LOCKS / "0.output.lock").write_text("results\n")
    return tmp_path


def test_who_is_at_work(locked):
    with subprocess.Popen(
        [sys.executable, "-uc", "print(); input()", "snakemake"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()  # it is what its command line says from now on
        run_log.start(locked)
        note = json.loads((locked / run_log.NOTE).read_text())
        assert note["process"] == os.getpid()
        note["process"] = process.pid
        (locked / run_log.NOTE).write_text(json.dumps(note))
        message = run_log.lock_owner(locked)
        assert f"another run is at work in this folder (process {process.pid} of " in message.what
        assert message.fix.startswith("wait until it has ended")
        assert "--unlock" not in message.fix
        process.stdin.close()
        process.wait()
    message = run_log.lock_owner(locked)
    assert "an earlier run in this folder was killed" in message.what
    assert "--unlock" in message.fix
    (locked / run_log.NOTE).write_text(json.dumps(note | {"host": "elsewhere"}))
    message = run_log.lock_owner(locked)
    assert "another run is at work" in message.what
    assert "on elsewhere" in message.what
    assert "wait until" in message.fix
    assert "--unlock" in message.fix


def test_a_lock_without_a_note(locked):
    assert "not known whose" in run_log.lock_owner(locked).what
