"""Processes that fit folds: each keeps its own, what they raise is raised, none is left behind."""

import logging
import os
import signal

import pytest

from her2pipe.aggregation.fold_processes import FoldProcesses
from her2pipe.errors import Her2Error

kept = {}


def fit(number, value):
    logging.getLogger("her2pipe.fit").warning("at work")
    kept[number] = value, os.getpid()
    return value


def judge(number):
    value, process = kept[number]
    return value, process == os.getpid(), process


def fail(number):
    raise Her2Error("a loss is not finite", "here", "mend it")


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


WORK = {"fit": fit, "judge": judge, "fail": fail, "die": die}


@pytest.mark.parametrize("count", [1, 2])
def test_a_fold_stays_with_the_process_that_had_it(count, capfd):
    with FoldProcesses(WORK, count) as run:
        assert run("fit", [(10,), (20,), (30,)]) == [10, 20, 30]
        values, same, processes = zip(*run("judge", [()] * 3), strict=True)
    assert values == (10, 20, 30)
    assert all(same)
    assert (os.getpid() in processes) == (count == 1)
    assert len(set(processes)) == count
    for process in set(processes) - {os.getpid()}:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_what_a_process_raises_is_raised():
    with pytest.raises(Her2Error, match="a loss is not finite"), FoldProcesses(WORK, 2) as run:
        run("fail", [(), ()])


def test_a_process_that_was_killed_is_an_error():
    with (
        pytest.raises(Her2Error, match="ended with code -9: killed"),
        FoldProcesses(WORK, 2) as run,
    ):
        run("die", [()])
