"""What jobs ask a machine for."""

from __future__ import annotations

from collections.abc import Callable

from her2pipe.workflow.study import Wildcards

CPU = "cpu"  # the device of a study that has no graphics card
BY_ATTEMPT = "is_by_attempt"  # attribute of a resource that all jobs of a rule ask for alike


def growing(amount: int) -> Callable[[Wildcards, int], int]:
    """Return a resource that grows with every attempt: what was too little is doubled, tripled."""

    def amount_of(wildcards: Wildcards, attempt: int) -> int:
        return amount * attempt

    setattr(amount_of, BY_ATTEMPT, True)
    return amount_of


def gpus(device: str) -> int:
    """Return how many graphics cards a job on a device asks for."""
    return 0 if device == CPU else 1


def threads_for(device: str, beside_gpu: int) -> int:
    """Return the threads of a job: with a graphics card some that read and decode for it."""
    return 1 if device == CPU else beside_gpu
