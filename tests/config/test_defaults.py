"""A changed default changes a step's output: it must raise the number of the step's algorithm.

Commands hold what differs from the defaults, so nothing else would rerun the step. `defaults.json`
records the defaults of each step; `python tests/config/test_defaults.py` writes it anew.
"""

import importlib
import json
from pathlib import Path

import pytest

from her2pipe.config import STEPS, flags

RECORD = Path(__file__).with_name("defaults.json")


def sections(step):
    """Return the sections of settings of a step, of each kind of fit, too."""
    module = importlib.import_module(f"her2pipe.steps.{step}")
    kinds = set(module.SETTINGS)
    if choose := getattr(module, "settings", None):
        from her2pipe.aggregation.base import AGGREGATIONS

        for name in AGGREGATIONS.names():
            kinds |= set(choose(["--aggregate", name]))
    return sorted(kinds, key=lambda kind: kind.__name__)


def current():
    """Return the algorithm and the defaults of each step, by section and setting."""
    steps = {}
    for step in STEPS:
        values = {}
        for kind in sections(step):
            dumped = kind().model_dump(mode="json")
            values[kind.__name__] = {name: dumped[name] for name in flags.flag_fields(kind)}
        numbers = {v.pop("algorithm") for v in values.values() if "algorithm" in v}
        assert len(numbers) == 1, step
        steps[step] = {"algorithm": numbers.pop(), "defaults": values}
    return steps


def unrecorded(recorded, now):
    """Return the mistakes: defaults that changed while the algorithm of their step did not."""
    mistakes = []
    for step, values in now.items():
        if step not in recorded or values["algorithm"] != recorded[step]["algorithm"]:
            continue
        for section, defaults in recorded[step]["defaults"].items():
            for name, value in defaults.items():
                other = values["defaults"].get(section, {}).get(name, value)
                if other != value:
                    mistakes.append(f"{step}: {section}.{name} was {value}, is {other}")
    return mistakes


def test_a_changed_default_raises_the_algorithm_of_its_steps():
    recorded, now = json.loads(RECORD.read_text()), current()
    assert unrecorded(recorded, now) == [], "raise the step's algorithm in its settings"
    assert recorded == now, "run python tests/config/test_defaults.py"


@pytest.mark.parametrize(
    ("algorithm", "default", "mistakes"),
    [(1, 2, 1), (2, 2, 0), (1, 1, 0)],
)
def test_the_record_tells_a_change_from_a_new_algorithm_and_a_new_setting(
    algorithm, default, mistakes
):
    recorded = {"tile": {"algorithm": 1, "defaults": {"TileSettings": {"side": 1}}}}
    defaults = {"TileSettings": {"side": default, "novelty": 3}}
    now = {"tile": {"algorithm": algorithm, "defaults": defaults}}
    assert len(unrecorded(recorded, now)) == mistakes


if __name__ == "__main__":
    changes = unrecorded(json.loads(RECORD.read_text()), current()) if RECORD.exists() else []
    if changes:
        raise SystemExit("\n".join(["raise the algorithm of the step first:", *changes]))
    RECORD.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n")
