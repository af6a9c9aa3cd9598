"""What Snakemake does for every job, by a shorter way, with the same result.

These modules replace inner functions of Snakemake, of versions that are known; any other version
works in its own, slower way.
"""

import snakemake

KNOWN_VERSIONS = ("9.27.",)


def is_known() -> bool:
    """Return whether Snakemake's inner functions are those that are replaced here."""
    return snakemake.__version__.startswith(KNOWN_VERSIONS)
