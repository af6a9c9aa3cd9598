"""Versions of her2pipe's own networks, raised when one computes otherwise from equal weights.

A version beyond the first stands in the params of the jobs that train such a network, so that they,
and no others, run again; `model.json` keeps it, and a model of another version is refused. torch is
not needed here: a workflow is planned without it.
"""

from __future__ import annotations

VERSIONS = {
    "ather2": 2,  # 2: convolutions padded as TensorFlow's "same"; batch norm with Keras's constants
    "pruneff4": 2,  # 2: batch norm of the head with Keras's constants
}


def version_of(architecture: str) -> int:
    """Return the version of a network; 1 of those that never changed."""
    return VERSIONS.get(architecture, 1)
