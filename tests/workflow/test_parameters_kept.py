"""Snakemake asks for the parameters of each function once, not for every job."""

import inspect

from snakemake import common, rules

from her2pipe.workflow.quick.planning import kept, plan_quickly


class Inputs:
    def stores(self, wildcards):
        return []


class NoKey:
    __hash__ = None

    def __call__(self, wildcards, attempt):
        return attempt


def test_parameters_are_those_of_the_function_asked_for():
    asked = []

    def parameters(function):
        asked.append(function)
        return inspect.signature(function).parameters

    get, one, other = kept(parameters), Inputs(), Inputs()
    functions = [one.stores, other.stores, Inputs.stores, one.stores, lambda wildcards: 1, NoKey()]
    names = [["wildcards"], ["wildcards"], ["self", "wildcards"], ["wildcards"], ["wildcards"]]
    assert [list(get(function)) for function in functions] == [*names, ["wildcards", "attempt"]]
    assert len(asked) == 4  # a method of both objects, the same unbound, and what came once


def test_snakemake_is_given_them_once(monkeypatch):
    monkeypatch.setattr("gc.set_threshold", lambda *thresholds: None)
    ask = inspect.unwrap(common.get_function_params)
    for module in (common, rules):
        monkeypatch.setattr(module, "get_function_params", ask)
    plan_quickly()
    plan_quickly()
    for module in (common, rules):
        assert inspect.unwrap(module.get_function_params) is module.get_function_params.__wrapped__
        assert module.get_function_params.__wrapped__ is ask
