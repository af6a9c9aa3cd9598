"""What planning asks of Snakemake a million times is answered as Snakemake answers."""

from types import SimpleNamespace

import pytest
import snakemake
from snakemake import io, rules
from snakemake.io import AnnotatedString, IOFile, directory, temp
from snakemake.resources import Resource
from snakemake.settings.types import Quietness
from snakemake_interface_common.io import AnnotatedStringInterface

from her2pipe.workflow.quick import KNOWN_VERSIONS, planning
from her2pipe.workflow.quick.planning import is_flagged, plan_quickly
from her2pipe.workflow.resources import growing

PATHVARS = SimpleNamespace(apply=lambda path: path)


def snakemakes_is_flagged(value, flag):
    return isinstance(value, AnnotatedStringInterface) and value.is_flagged(flag)


def test_flags_are_as_snakemake_has_them():
    rule = SimpleNamespace(pathvars=PATHVARS)
    off = AnnotatedString("c")
    off.flags["temp"] = False
    values = [temp("a"), directory("b"), off, AnnotatedString("d"), "e", None, 3, len]
    values += [IOFile(value, rule) for value in values[:5]]
    for flag in ("temp", "directory", "ancient"):
        expected = [snakemakes_is_flagged(value, flag) for value in values]
        assert [is_flagged(value, flag) for value in values] == expected
    assert sum(is_flagged(value, "temp") for value in values) == 2


def test_another_version_of_snakemake_plans_in_its_own_way(monkeypatch):
    monkeypatch.setattr("snakemake.__version__", "10.0.0")
    monkeypatch.setattr(io, "is_flagged", asked := object())
    plan_quickly()
    assert io.is_flagged is asked
    monkeypatch.undo()


def test_the_tested_version_of_snakemake_is_known():
    assert snakemake.__version__.startswith(KNOWN_VERSIONS)


def test_a_file_of_a_rule_is_itself_and_compares_as_its_text():
    plan_quickly()
    plan_quickly()
    rule, other = (SimpleNamespace(pathvars=PATHVARS) for _ in range(2))
    file = IOFile(temp("results/a.h5"), rule)
    assert rules.IOFile(file, rule) is file
    copy = rules.IOFile(file, other)
    assert copy is not file
    assert copy.rule is other
    assert io.is_flagged(copy, "temp")
    assert file == copy == "results/a.h5"
    assert hash(file) == hash("results/a.h5")
    assert {file: 1}["results/a.h5"] == 1
    assert file != "results/b.h5"
    assert type(rules.IOFile("b", rule)) is io._IOFile


@pytest.mark.parametrize(
    ("resources", "asked"),
    [
        ({"_cores": 2, "mem_mb": growing(100)}, 3),  # two attempts, one with a folder of its own
        ({"mem_mb": lambda wildcards, attempt: len(wildcards)}, 5),
    ],
)
def test_resources_of_all_jobs_of_a_rule_are_worked_out_once_per_attempt(resources, asked):
    calls = []

    def expand(rule, wildcards, input, attempt, skip_evaluation):
        calls.append((wildcards, attempt))
        values = {"wildcards": wildcards, "attempt": attempt}
        return [r.evaluate(**values).value for r in rule.resources.values()]

    rule = SimpleNamespace(resources={k: Resource(k, v) for k, v in resources.items()})
    rule = type("Rule", (), {"resources": rule.resources})()
    get = planning._once_per_attempt(expand)
    one = [get(rule, "a", [], 1), get(rule, "abc", [], 1), get(rule, "a", [], 2)]
    one += [get(rule, "a", [], 1, skip_evaluation={"tmpdir"}), get(rule, "abcd", [], 2)]
    assert len(calls) == asked
    if asked == 3:
        assert one == [[2, 100], [2, 100], [2, 200], [2, 100], [2, 200]]
    else:
        assert one == [[1], [3], [1], [1], [4]]


def test_a_command_is_formatted_once_until_the_job_changes():
    formatted = []

    def command(job):
        formatted.append(job)
        return f"{job.name} {job.params}"

    get = planning._last_command(command)
    one, other = (SimpleNamespace(name=n, params=[1], resources=[]) for n in "ab")
    assert [get(one), get(one), get(other), get(one)] == ["a [1]", "a [1]", "b [1]", "a [1]"]
    assert len(formatted) == 3
    one.params = [2]  # of the next attempt
    assert [get(one), get(one)] == ["a [2]", "a [2]"]
    assert len(formatted) == 4


@pytest.mark.parametrize(
    ("quiet", "n"), [(None, 1), ({Quietness.PROGRESS}, 1), ({Quietness.RULES}, 0)]
)
def test_what_a_quiet_run_does_not_print_is_not_gathered(quiet, n):
    logged = []
    workflow = SimpleNamespace(output_settings=SimpleNamespace(quiet=quiet))
    job = SimpleNamespace(dag=SimpleNamespace(workflow=workflow))
    planning._unless_quiet(lambda job, indent: logged.append(indent))(job, indent=True)
    assert logged == [True] * n
