"""A mistake of the user: three lines, and nothing else."""

import pytest

from her2pipe.errors import Her2Error


def problems_of(call, *arguments, **options):
    """Call something that must end in mistakes of the user; return them, each of three lines."""
    with pytest.raises(Her2Error) as caught:
        call(*arguments, **options)
    problems = getattr(caught.value, "problems", [caught.value])
    for problem in problems:
        lines = str(problem).splitlines()
        assert len(lines) == 3
        assert lines[0].startswith("her2pipe: ")
        assert lines[1].startswith("  where: ")
        assert lines[2].startswith("  fix:   ")
    return problems
