"""How a run chooses its next jobs, by a shorter way; its choice stays the same.

- `JobScheduler.update_input_sizes`: each time a job ends Snakemake asks the sizes of all inputs of
  all jobs that are ready, which do not change. They are asked once per job.
- `JobScheduler.remaining_jobs`: a list of all jobs to do, made each time a job ends, for a
  scheduler that does not look at it.
- `job_reward` of the greedy scheduler: the sums of these sizes are kept, too.
"""

from __future__ import annotations

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
    greedy.Scheduler.job_reward = _reward_kept(greedy.Scheduler.job_reward)


async def update_input_sizes(scheduler: Any, jobs: Iterable[Any]) -> None:
    """Ask for the sizes of inputs of jobs that are ready for the first time."""
    seen = vars(scheduler).setdefault("jobs_sized", set())
    sizes = scheduler._input_sizes
    new = set(jobs) - seen
    seen |= new
    for path in {path for job in new for path in job.input if path not in sizes}:
        sizes[path] = await path.size() if await path.exists() else None


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
