"""Where the Snakefile lies, with all that goes with it: rules, environments, profiles, studies.

In a clone these are beside the package; the build puts them inside it (`pyproject.toml`), in a
folder that has the same layout.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from her2pipe.errors import Her2Error

PACKAGE = Path(__file__).resolve().parents[1]
BUILT_IN = PACKAGE / "project"  # of an installed package
LINKS = Path(".snakemake/her2pipe")  # in a study: holds the package and nothing else


def project() -> Path:
    """Return the folder of the Snakefile.

    Raises
    ------
    Her2Error
        When the package was copied without it.
    """
    for folder in (BUILT_IN, PACKAGE.parent):
        if (folder / "Snakefile").is_file():
            return folder
    raise Her2Error(
        "the workflow is neither inside the package nor beside it",
        str(PACKAGE),
        "install the wheel, or call the her2pipe that `make setup` puts into .venv",
    )


def snakefile() -> Path:
    """Return the Snakefile."""
    return project() / "Snakefile"


def demo_study() -> Path:
    """Return the study file of the demo."""
    return project() / "config.yaml"


def import_path() -> Path:
    """Return a folder from which another Python imports this package, and no library beside it.

    An installed package is among libraries of its own Python, which may not be another's: the
    study's folder then gets a link to it.
    """
    if not BUILT_IN.is_dir():
        return PACKAGE.parent
    link = LINKS.absolute() / PACKAGE.name
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)  # to a Python that is gone
        with suppress(FileExistsError):  # by another job, a moment ago
            link.symlink_to(PACKAGE)
    return link.parent
