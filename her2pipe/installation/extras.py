"""Libraries that only some studies need, installed by an extra: `pip install "her2pipe[formats]"`.

A library that is not there is named with its extra, whoever imports it.
"""

from __future__ import annotations

import re
from importlib.util import find_spec

from her2pipe.errors import Her2Error

# library: the extra of pyproject.toml that installs it, and what it is for
EXTRAS = {
    "tiatoolbox": ("formats", "reading slides that OpenSlide cannot open"),
    "onnx": ("deploy", "writing networks as ONNX"),
    "onnxruntime": ("deploy", "running networks as ONNX"),
    "snakemake_executor_plugin_slurm": ("slurm", "submitting jobs to SLURM"),
    "snakemake_executor_plugin_cluster_generic": ("generic", "submitting jobs by commands"),
    "snakemake_executor_plugin_htcondor": ("htcondor", "submitting jobs to HTCondor"),
}
SHARED_OBJECT = re.compile(r"(\S+\.so[.\d]*): cannot open shared object file")
OPENCV_NEEDS = "libgl1 libglib2.0-0 libxcb1"  # of a system without a desktop


class MissingLibraryError(Her2Error):
    """A library is not installed."""


def require(*libraries: str) -> None:
    """Refuse to go on without libraries.

    Raises
    ------
    MissingLibraryError
        Naming the first that is not installed, and its extra.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise missing(library)


def missing(library: str) -> MissingLibraryError:
    """Return the error that a library is not installed."""
    extra, purpose = EXTRAS[library]
    return MissingLibraryError(
        f"{library.replace('_', '-')} is not installed, which is needed for {purpose}",
        f"extra {extra} of her2pipe",
        f'pip install "her2pipe[{extra}]"',
    )


def of_import(error: ImportError) -> Her2Error | None:
    """Return what a user can do about an import that failed; None if it is a bug."""
    if of_system := SHARED_OBJECT.search(str(error)):
        return Her2Error(
            f"the system lacks the library {of_system[1]}",
            "import of a package that needs it",
            f"install it; on Debian and Ubuntu: apt-get install {OPENCV_NEEDS}",
        )
    library = (error.name or "").split(".")[0]
    return missing(library) if library in EXTRAS and find_spec(library) is None else None
