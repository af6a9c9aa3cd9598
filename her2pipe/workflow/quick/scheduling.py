"""How a run chooses its next jobs, by a shorter way; its choice stays the same.

- `JobScheduler.update_input_sizes`: each time a job ends Snakemake asks the sizes of all inputs of
  all jobs that are ready, which do not change. They are asked once per job.
- `JobScheduler.remaining_jobs`: a list of all jobs to do, made each time a job ends, for a
  scheduler that does not look at it.
- `JobScheduler.open_jobs`: of more ready jobs than are considered at once a sample is drawn before,
  not after, all of them are looked at.
- `job_reward` of the greedy scheduler: the sums of these sizes are kept, too. `select_jobs`: jobs
  that ask for the same are held against what is free once, not each by itself.
- `JobScheduler._schedule_reevalutation`: as jobs that begin are limited per second, each look at
  the ready jobs begins a timer for another look, which begins one in turn. After hundreds of jobs
  a run looked hundreds of times a second. Now it looks again only where the limit is reached, and
  one timer waits at a time.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def schedule_quickly() -> None:
    """Take from scheduling what is repeated for all ready jobs whenever one ends."""
    from snakemake.scheduling import greedy
    from snakemake.scheduling.job_scheduler import JobScheduler

    if JobScheduler.update_input_sizes is update_input_sizes:
        return
    JobScheduler.update_input_sizes = update_input_sizes
    JobScheduler.remaining_jobs = property(_Remaining)
    JobScheduler.open_jobs = property(considered_jobs)
    JobScheduler._schedule_reevalutation = look_again
    greedy.Scheduler.job_reward = _reward_kept(greedy.Scheduler.job_reward)
    greedy.Scheduler.select_jobs = _selecting(greedy.Scheduler.select_jobs)


async def update_input_sizes(scheduler: Any, jobs: Iterable[Any]) -> None:
    """Ask for the sizes of inputs of jobs that are ready for the first time."""
    seen = vars(scheduler).setdefault("jobs_sized", set())
    sizes = scheduler._input_sizes
    new = set(jobs) - seen
    seen |= new
    for path in {path for job in new for path in job.input if path not in sizes}:
        sizes[path] = await path.size() if await path.exists() else None


def considered_jobs(scheduler: Any) -> list[Any]:
    """Return the ready jobs, or as many of them as a run considers at once."""
    ready = list(scheduler.workflow.dag.ready_jobs)
    most = scheduler.subsample
    return (
        random.sample(ready, most) if most and len(ready) > most and not scheduler.dryrun else ready
    )


def look_again(scheduler: Any, delay_s: float) -> None:
    """Have a run look at its ready jobs in a while, if the end of no job will have it look."""
    limiter = scheduler.job_rate_limiter
    is_limited = limiter is not None and not limiter.get_free_jobs()
    if not is_limited and not scheduler.workflow.dag.has_unfinished_queue_input_jobs():
        return
    waiting = vars(scheduler).get("timer")
    if waiting is None or waiting.finished.is_set():

        def look() -> None:
            timer.finished.set()  # the look may begin the next one
            scheduler._open_jobs.release()

        scheduler.timer = timer = threading.Timer(delay_s, look)
        timer.start()


class _Remaining:
    """The jobs to do that neither run nor failed, found when they are asked for."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def __iter__(self) -> Iterator[Any]:
        """Go over them, as `JobScheduler.remaining_jobs` lists them."""
        scheduler = self._scheduler
        dag = scheduler.workflow.dag
        for job in dag.needrun_jobs():
            if not (job in scheduler.running or dag.finished(job) or job in scheduler.failed):
                yield job

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _reward_kept(reward: Callable) -> Callable:
    """Return a function that works out once by how much a job's inputs move it forward."""

    def get(scheduler: Any, job: Any, input_sizes: Any) -> Any:
        known = vars(scheduler).setdefault("rewards", {})
        if job not in known:
            known[job] = reward(scheduler, job, input_sizes)
        return known[job]

    return get


def _selecting(select: Callable) -> Callable:
    """Return a function that selects what the greedy scheduler does.

    That is, of the jobs that what is free suffices for the one with the greatest reward, again and
    again: how greedy it is makes no difference, as there is one of each job.
    """

    @functools.wraps(select)
    def get(
        scheduler: Any, selectable_jobs: Any, remaining_jobs: Any, available: Any, input_sizes: Any
    ) -> list[Any]:
        jobs, free = list(selectable_jobs), list(available.values())
        weights = [tuple(scheduler.job_weight(job, available)) for job in jobs]
        rewards = [scheduler.job_reward(job, input_sizes) for job in jobs]
        left = dict.fromkeys(range(len(jobs)))
        while left:
            suits = {weight: _fits(weight, free) for weight in set(weights)}
            able = (i for i in left if suits[weights[i]])
            chosen = max(able, key=rewards.__getitem__, default=None)
            if chosen is None:
                break
            free = [there - asked for there, asked in zip(free, weights[chosen], strict=True)]
            del left[chosen]
        return [job for i, job in enumerate(jobs) if i not in left]

    return get


def _fits(weight: Iterable[int], free: Iterable[int]) -> bool:
    """Return whether what is free suffices for what a job asks for."""
    return all(asked <= there for asked, there in zip(weight, free, strict=True) if asked)
