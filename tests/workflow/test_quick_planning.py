"""What planning asks of Snakemake a million times is answered as Snakemake answers."""

import asyncio
import inspect
from types import MappingProxyType, SimpleNamespace

import pytest
import snakemake
from snakemake import io, iocontainers, rules
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
    workflow = SimpleNamespace(output_settings=SimpleNamespace(quiet=quiet), dryrun=False)
    job = SimpleNamespace(dag=SimpleNamespace(workflow=workflow), _params=[1])
    log = planning._unless_quiet(lambda job, indent: logged.append(indent))
    log(job, indent=True)
    assert logged == [True] * n
    assert job._params == [1]
    workflow.dryrun = True
    log(job, indent=True)
    assert job._params == (None if n else [1])


def test_lists_of_names_are_as_snakemake_makes_them():
    plan_quickly()

    class Plain(iocontainers.Namedlist):
        """A list that Snakemake's own functions begin and name."""

        __init__ = inspect.unwrap(iocontainers.Namedlist.__init__)
        _set_name = inspect.unwrap(iocontainers.Namedlist._set_name)

    def described(kind):
        first = kind(fromdict={"index": "a", "view": "b"})
        first.append("c")
        first._set_name("slides", 1, end=3)
        copies = [first, kind(toclone=first), kind(toclone=["x"]), kind(first, plainstr=True)]
        return [
            (list(named), dict(named._get_names()), sorted(dict(named.items()).items()))
            for named in [*copies, kind(toclone=iter("xy"), fromdict={"z": 1}), kind()]
        ]

    assert described(iocontainers.Namedlist) == described(Plain)
    named = iocontainers.Namedlist(fromdict={"view": "a"})
    assert named.get("sort") is None
    with pytest.raises(AttributeError, match="cannot be used"):
        named.sort()
    with pytest.raises(AttributeError, match="reserved"):
        named._set_name("append", 0)
    named._set_name("index", 0)
    assert named.index == "a"


@pytest.mark.parametrize("environment", ["envs/stats.yaml", None])
def test_an_environment_of_all_jobs_of_a_rule_needs_no_params(environment):
    class Job:
        _conda_env_spec = None
        wildcards_dict = MappingProxyType({"slide": "a"})

        def __init__(self, environment):
            expand = lambda wildcards, params=None: (environment, wildcards["slide"], params)  # noqa: E731
            self.rule = SimpleNamespace(_conda_env=environment, expand_conda_env=expand)

    get = planning._of_rule(lambda job: job.rule.expand_conda_env(job.wildcards_dict, "params"))
    assert get(Job(environment)) == (environment, "a", None)
    assert get(Job(by_job := len)) == (by_job, "a", "params")


def test_empty_sets_of_jobs_are_one():
    class Job:
        def __init__(self, *temporary):
            for name in planning.SETS_OF_JOB:
                setattr(self, name, set())
            self.temp_output |= set(temporary)

    Job.__init__ = planning._sharing_empty_sets(Job.__init__)
    job = Job("a")
    assert job.temp_output == {"a"}
    assert job.touch_output is job.protected_output is Job().temp_output == set()


def test_only_params_that_changed_are_kept():
    compare = planning._forgetting_params(lambda persistence, job, file: job._params - {"old"})
    for params, kept in (({"old"}, None), ({"old", "new"}, {"old", "new"})):
        job = SimpleNamespace(_params=params, _non_derived_params=[1], is_group=lambda: False)
        assert compare(None, job) == params - {"old"}
        assert job._params == kept


def test_tasks_of_a_plan_are_done_in_turn():
    done, module = [], SimpleNamespace(asyncio=asyncio)

    async def task(number, fails=False):
        await asyncio.sleep(0)
        done.append(number)
        if fails:
            raise ValueError("of a task")

    async def update(plan, fails):
        async with module.asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(task(number, fails))
            assert done == []
        return done

    asyncio.run(planning._in_turn(update, module)("plan", fails=False))
    assert done == [0, 1, 2]
    done.clear()
    with pytest.raises(ValueError, match="of a task"):
        asyncio.run(planning._in_turn(update, module)("plan", fails=True))
    assert done == [0]
    assert module.asyncio is asyncio
