"""What jobs ask a machine for."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from her2pipe.workflow.study import Wildcards

NAMES = ("gpu", "mem_mb", "runtime")  # what the rules ask for, beside threads
CPU = "cpu"  # the device of a study that has no graphics card
BY_ATTEMPT = "is_by_attempt"  # attribute of a resource that all jobs of a rule ask for alike


def growing(amount: int) -> Callable[[Wildcards, int], int]:
    """Return a resource that grows with every attempt: what was too little is doubled, tripled."""

    def amount_of(wildcards: Wildcards, attempt: int) -> int:
        return amount * attempt

    setattr(amount_of, BY_ATTEMPT, True)
    return amount_of


def gpus(device: str, cards: int = 1) -> int:
    """Return how many graphics cards a job on a device asks for."""
    return 0 if device == CPU else cards


def threads_for(device: str, beside_gpu: int) -> int:
    """Return the threads of a job: with a graphics card some that read and decode for it."""
    return 1 if device == CPU else beside_gpu


def link(resources: MutableMapping[str, Any]) -> None:
    """Give a rule's resources the values of those whose names they hold.

    Executors have names of their own for what a rule asks for. A profile translates them:
    `default-resources: {request_gpus: gpu}` makes HTCondor's `request_gpus` the rule's `gpu`,
    whatever the job, the attempt, or `set-resources` make of it, and 0 where a rule has no `gpu`.

    Parameters
    ----------
    resources : mapping of str to snakemake.resources.Resource
        Of one rule, with the profile's; changed in place.
    """
    for name, resource in list(resources.items()):
        source = resource.raw
        if source == name or source not in NAMES:
            continue
        resources[name] = resources[source].with_name(name) if source in resources else 0
