"""Study files that Snakemake's command line names, read with limits before Snakemake reads them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from her2pipe.installation.location import snakefile

# Where Snakemake looks for a workflow that its command line does not name.
PLACES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")


class _Silent(argparse.ArgumentParser):
    """Leaves mistakes of the command line to Snakemake, which names them in its own words."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise ValueError(message)


def study_files(words: Sequence[str], folder: Path = Path()) -> list[Path]:
    """Return the study files that a call of Snakemake is about to read.

    Parameters
    ----------
    words : sequence of str
        Words of the command line after `snakemake`.
    folder : Path
        Working directory of the call.

    Returns
    -------
    list of Path
        Those named by `--configfile`, or else the `config.yaml` beside the Snakefile; none when
        the call is of another workflow.
    """
    parser = _Silent(add_help=False, allow_abbrev=False)
    parser.add_argument("--snakefile", "-s")
    parser.add_argument("--configfile", "--configfiles", nargs="+", default=[])
    try:
        options, _ = parser.parse_known_args(list(words))
    except ValueError:
        return []
    places = [options.snakefile] if options.snakefile else PLACES
    there = next((path for place in places if (path := folder / place).exists()), None)
    if there is None or there.resolve() != snakefile().resolve():
        return []
    return [folder / name for name in options.configfile] or [there.parent / "config.yaml"]
