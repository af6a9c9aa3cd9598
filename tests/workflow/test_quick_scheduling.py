"""A run chooses its jobs as Snakemake does, without asking the same again whenever one ends."""

import asyncio
import inspect
import threading
from types import SimpleNamespace

import numpy as np
from snakemake.scheduling import greedy

from her2pipe.workflow.quick import scheduling


class File(str):
    """A file that counts how often its size is asked for; the empty ones do not exist."""

    asked = 0

    async def exists(self):
        return bool(self)

    async def size(self):
        File.asked += 1
        return len(self)


class Job(SimpleNamespace):
    """A job, which like Snakemake's is a key."""

    __hash__ = object.__hash__


def test_sizes_of_inputs_are_asked_once_and_complete():
    scheduler = SimpleNamespace(_input_sizes={})
    one, other = Job(input=[File("ab"), File("abc")]), Job(input=[File("abc"), File("")])
    for jobs in ({one}, {one, other}, {other}):
        asyncio.run(scheduling.update_input_sizes(scheduler, jobs))
    assert scheduler._input_sizes == {"ab": 2, "abc": 3, "": None}
    assert File.asked == 2


def test_jobs_that_remain_are_those_that_snakemake_lists():
    jobs = [Job(name=name) for name in "abcd"]
    running, failed, finished, todo = jobs
    dag = SimpleNamespace(needrun_jobs=lambda: iter(jobs), finished=lambda job: job is finished)
    scheduler = SimpleNamespace(
        running={running}, failed={failed}, workflow=SimpleNamespace(dag=dag)
    )
    remaining = scheduling._Remaining(scheduler)
    assert list(remaining) == [todo]
    assert len(remaining) == 1
    assert remaining
    scheduler.failed.add(todo)
    assert not remaining


def test_what_moves_a_job_forward_is_worked_out_once_per_job_and_scheduler():
    asked = []

    def reward(scheduler, job, input_sizes):
        asked.append(job)
        return job.priority, sum(input_sizes[name] or 0 for name in job.input)

    get = scheduling._reward_kept(reward)
    sizes = {"a": 2, "b": None, "c": 5}
    jobs = [Job(priority=0, input=["a", "b"]), Job(priority=3, input=["c"])]
    for scheduler in (SimpleNamespace(), SimpleNamespace()):
        for _ in range(2):
            assert [get(scheduler, job, sizes) for job in jobs] == [(0, 2), (3, 5)]
    assert len(asked) == 4


def test_of_many_ready_jobs_as_many_are_considered_as_the_profile_says():
    ready = {Job() for _ in range(5)}
    scheduler = SimpleNamespace(subsample=3, dryrun=False)
    scheduler.workflow = SimpleNamespace(dag=SimpleNamespace(ready_jobs=ready))
    assert len(chosen := set(scheduling.considered_jobs(scheduler))) == 3
    assert chosen < ready
    for name, value in {"dryrun": True, "subsample": None, "subsample ": 5}.items():
        scheduler.dryrun = False
        setattr(scheduler, name.strip(), value)
        assert set(scheduling.considered_jobs(scheduler)) == ready


def test_the_greedy_scheduler_selects_as_it_did():
    generator = np.random.default_rng(7)
    plain = inspect.unwrap(greedy.Scheduler.select_jobs)
    quick = scheduling._selecting(plain)
    scheduler = greedy.Scheduler.__new__(greedy.Scheduler)
    scheduler.settings = greedy.SchedulerSettings()
    scheduler.job_reward = lambda job, sizes: job.reward
    selected = 0
    for _ in range(60):
        jobs = [
            Job(
                scheduler_resources={"_cores": int(c), "gpu": int(g), "_job_count": 1},
                reward=tuple(map(int, generator.integers(0, 3, 3))),
            )
            for c, g in generator.integers(0, 4, (generator.integers(1, 9), 2))
        ]
        for cores, gpus in ((4, 1), (2, 0), (0, 0), (9, 5), (-1, 2)):
            free = {"_cores": cores, "gpu": gpus, "_job_count": 10**9, "mem_mb": 5}
            expected = plain(scheduler, jobs, None, free, {})
            assert quick(scheduler, jobs, None, free, {}) == expected
            selected += len(expected)
            if min(free.values()) >= 0:  # half as greedy as by `--prioritize`
                scheduler.settings.greediness = 0.5
                assert quick(scheduler, jobs, None, free, {}) == expected
                assert plain(scheduler, jobs, None, free, {}) == expected
                scheduler.settings.greediness = 1.0
    assert selected > 100


def test_a_run_looks_again_only_where_the_limit_of_jobs_per_second_is_reached(monkeypatch):
    begun = []

    class Timer(threading.Timer):
        def start(self):
            begun.append(self)

    monkeypatch.setattr(scheduling.threading, "Timer", Timer)
    waiting, free = [], [100, 1]
    scheduler = SimpleNamespace(
        job_rate_limiter=SimpleNamespace(get_free_jobs=lambda: free[-1]),
        workflow=SimpleNamespace(
            dag=SimpleNamespace(has_unfinished_queue_input_jobs=lambda: bool(waiting))
        ),
        _open_jobs=threading.Semaphore(0),
    )
    for _ in range(2):
        scheduling.look_again(scheduler, 1)
    assert not begun
    free.append(0)
    for _ in range(3):
        scheduling.look_again(scheduler, 1)
    assert [timer.interval for timer in begun] == [1]
    begun[0].function()  # a second later
    assert scheduler._open_jobs.acquire(blocking=False)
    scheduling.look_again(scheduler, 1)
    assert len(begun) == 2
    begun[1].function()
    scheduler.job_rate_limiter = None
    scheduling.look_again(scheduler, 1)
    assert len(begun) == 2
    waiting.append("a job whose input comes by a queue")
    scheduling.look_again(scheduler, 10)
    assert begun[2].interval == 10


def test_snakemake_is_given_them(monkeypatch):
    monkeypatch.setenv("CONDOR_CONFIG", "/dev/null")  # a plugin warns without
    from snakemake.scheduling.job_scheduler import JobScheduler

    for kind, name in (
        (JobScheduler, "update_input_sizes"),
        (JobScheduler, "remaining_jobs"),
        (JobScheduler, "open_jobs"),
        (JobScheduler, "_schedule_reevalutation"),
        (greedy.Scheduler, "job_reward"),
        (greedy.Scheduler, "select_jobs"),
    ):
        monkeypatch.setattr(kind, name, getattr(kind, name))
    scheduling.schedule_quickly()
    reward = greedy.Scheduler.job_reward
    scheduling.schedule_quickly()
    assert greedy.Scheduler.job_reward is reward
    assert JobScheduler.update_input_sizes is scheduling.update_input_sizes
