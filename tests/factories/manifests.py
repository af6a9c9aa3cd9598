"""Manifests as the workflow writes them."""

from her2pipe.files import write_text
from her2pipe.manifest import Manifest


def write_manifest(path, items):
    """Write a manifest; return its path."""
    write_text(path, Manifest(tuple(items)).to_text())
    return path
