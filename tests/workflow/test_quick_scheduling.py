"""A run chooses its jobs as Snakemake does, without asking the same again whenever one ends."""

import asyncio
from types import SimpleNamespace

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


def test_snakemake_is_given_them(monkeypatch):
    monkeypatch.setenv("CONDOR_CONFIG", "/dev/null")  # a plugin warns without
    from snakemake.scheduling import greedy
    from snakemake.scheduling.job_scheduler import JobScheduler

    for kind, name in (
        (JobScheduler, "update_input_sizes"),
        (JobScheduler, "remaining_jobs"),
        (greedy.Scheduler, "job_reward"),
    ):
        monkeypatch.setattr(kind, name, getattr(kind, name))
    scheduling.schedule_quickly()
    reward = greedy.Scheduler.job_reward
    scheduling.schedule_quickly()
    assert greedy.Scheduler.job_reward is reward
    assert JobScheduler.update_input_sizes is scheduling.update_input_sizes
