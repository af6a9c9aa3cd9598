"""Progress of a run: counts by step, an estimate that says what it leaves out, epochs from logs."""

import io
import json
import logging
from types import SimpleNamespace

import pytest

from her2pipe.workflow import run_progress, snakemake_api
from her2pipe.workflow.run_progress import ProgressLine, RunningJob, RunProgress, duration


def some_progress():
    """Return a run of 100 s: two of four tiles took 20 s each, one is at work, training waits."""
    progress = RunProgress(began=0)
    progress.plan({"tile": 4, "train": 1, "all": 1, "total": 6})
    for number, begin in ((1, 0), (2, 20)):
        progress.start(number, RunningJob("tile", f"S{number}", begin))
        progress.finish(number, begin + 20)
    progress.start(3, RunningJob("tile", "S3", 40))
    return progress


def test_the_estimate_by_hand():
    """One at a time, 20 s each: S3 has 10 s left, S4 20 s; training is named, not guessed."""
    progress = some_progress()
    assert progress.remaining(50) == (pytest.approx(30), ["train"])
    assert progress.estimate(50) == "more than half a minute left (not yet timed: train)"
    assert progress.line(50) == (
        "her2pipe: 2 of 5 jobs | more than half a minute left (not yet timed: train)"
        " | now tile S3 | tile 2/4"
    )


def test_two_at_a_time_take_half_as_long():
    progress = RunProgress(began=0)
    progress.plan({"tile": 6})
    for number in (1, 2):
        progress.start(number, RunningJob("tile", "S", 0))
    for number in (1, 2):
        progress.finish(number, 60)
    assert progress.remaining(60) == (pytest.approx(120), [])
    assert progress.estimate(60) == "about 2 min left"


def test_failed_jobs_are_still_to_be_done():
    progress = some_progress()
    progress.fail([3])
    assert progress.remaining(40)[0] == pytest.approx(40)
    assert "no job is done yet" in RunProgress(0, progress.total).line(5)


def test_epochs_come_from_the_log(tmp_path):
    log = tmp_path / "train.log"
    job = RunningJob("train", "net", 0, str(log), 9)
    assert job.title == "train net"
    log.write_text("train: train: epoch 1  loss 2\ntrain: validation: epoch 2  loss 1\nother\n")
    assert job.title == "train net (epoch 2 of 9)"
    assert job.epoch == "epoch 2  loss 1"
    assert RunningJob("tile", "S1", 0, str(log)).title == "tile S1"


def test_durations():
    said = [duration(s) for s in (5, 50, 200, 3600, 5000, 100_000)]
    assert said == ["half a minute", "1 min", "3 min", "1 h 0 min", "1 h 23 min", "27 h 47 min"]


def test_a_run_is_shown_kept_and_read(tmp_path):
    times, stream = iter([0, 20, 25, 30, 31]), io.StringIO()
    line = ProgressLine(tmp_path, stream, lambda: next(times))
    line.progress = some_progress()
    line.show()
    line.show()  # too soon for another line
    progress, estimate = run_progress.read(tmp_path)
    assert (progress.done, progress.total) == (line.progress.done, line.progress.total)
    assert [job.name for job in progress.running.values()] == ["S3"]
    assert estimate in stream.getvalue()
    assert run_progress.table(progress, estimate)[2:4] == [
        "tile             2 of 4",
        "train            0 of 1",
    ]
    line.end()
    assert len(stream.getvalue().splitlines()) == 2
    assert run_progress.read(tmp_path) is None


def test_damaged_state_is_no_run(tmp_path):
    file = tmp_path / run_progress.FILE
    file.parent.mkdir()
    for text in ("", "[]", "{}", json.dumps({"began": 0, "steps": {"tile": 3}, "running": []})):
        file.write_text(text)
        assert run_progress.read(tmp_path) is None


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a logger's handlers for a run that asks for a line, and a way to send events."""
    monkeypatch.chdir(tmp_path)
    settings = SimpleNamespace(quiet=[SimpleNamespace(name="HOST")], verbose=False)
    settings.printshellcmds = False
    encoders = {"net": SimpleNamespace(max_epochs=7)}
    study = SimpleNamespace(settings=SimpleNamespace(encoders=encoders, pretrainings={}))
    workflow = SimpleNamespace(output_settings=settings, dryrun=False)
    handler = snakemake_api.ProgressHandler(workflow, study)

    def send(event, **values):
        record = logging.makeLogRecord({"event": event, "msg": "", **values})
        passes = snakemake_api.OneLine(handler).filter(record)
        handler.emit(record)
        return passes

    return SimpleNamespace(handler=handler, send=send, workflow=workflow)


def test_events_of_snakemake_become_progress(run):
    job = {"rule_name": "train", "wildcards": {"encoder": "net"}, "log": ["logs/train/net.log"]}
    assert run.send("run_info", stats={"train": 1, "tile": 1, "total": 2})
    assert not run.send("job_info", jobid=1, **job)
    slide = {"view": "512", "cohort": "A", "slide": "S1"}
    assert not run.send("job_info", jobid=2, rule_name="tile", wildcards=slide, log=[])
    running = run.handler.line.progress.running
    assert [(job.step, job.name, job.epochs) for job in running.values()] == [
        ("train", "net", 7),
        ("tile", "S1", 0),
    ]
    assert not run.send("job_finished", job_id=2)
    assert run.send("job_error", jobid=1)
    assert run.handler.line.progress.running == {}
    assert run.handler.line.progress.done == {"tile": 1}
    assert run.send(None, msg="anything else")


def test_a_dry_run_shows_all_that_snakemake_says(run):
    run.workflow.dryrun = True
    assert run.send("job_info", jobid=1, rule_name="tile", wildcards={}, log=[])
    assert run.handler.line.progress.running == {}
