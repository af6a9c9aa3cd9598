"""Study files as they come: each is read, or refused at once in three lines that name the place."""

import copy
import datetime
import os
from pathlib import Path

import pytest
import yaml
from three_lines import problems_of

from her2pipe.config import load
from her2pipe.errors import Her2Error

pytestmark = pytest.mark.faults
ROOT = Path(__file__).parents[3]
STUDY = """cohorts:
  A: {sheet: a.tsv, role: development}
encoders:
  e: {}
methods:
  M: {encoder: e}
"""


def write(folder, text, encoding="utf-8"):
    path = folder / "study.yaml"
    path.write_text(text, encoding=encoding)
    return path


def bomb(levels):
    """Aliases of aliases, nine of each: 9 ** levels values in a few lines."""
    lines = ["a0: &a0 {" + ", ".join(f"k{j}: 1" for j in range(9)) + "}"]
    for i in range(1, levels):
        inner = ", ".join(f"k{j}: *a{i - 1}" for j in range(9))
        lines.append(f"a{i}: &a{i} {{{inner}}}")
    return "\n".join(lines) + "\n" + STUDY


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (bomb(10), "stands for more than 100,000 values"),
        ("x: &x [*x]\n" + STUDY, "holds itself"),
        ("x: &x {y: {z: *x}}\n" + STUDY, "holds itself"),
        pytest.param("x: " + "[" * 2000 + "]" * 2000, "nested too deep", marks=pytest.mark.slow),
        ("x: " + "{a: " * 300 + "1" + "}" * 300, "nested too deep"),
        ("a: [", "is not YAML"),
        ("\tx: 1", "is not YAML"),
        ("x: 2020-99-99", "cannot be read"),
        ("x: !!python/object/apply:os.system [ls]", "is not YAML"),
        ("\0", "is not YAML"),
        ("x: !!bool abc", "cannot be read"),
        ("x: !!int abc", "cannot be read"),
        ("x: " + "9" * 5000, "cannot be read"),
        ("? [a, b]\n: 1", "is not YAML"),
        ("x: {<<: 5}", "is not YAML"),
        (f"{STUDY}---\n{STUDY}", "is not YAML"),
    ],
)
def test_text_that_is_no_study(tmp_path, text, words):
    (problem,) = problems_of(load.load, write(tmp_path, text))
    assert words in problem.what


def folder_of(path):
    path.mkdir()


def device_of(path):
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("s.yaml", folder_of, "is a folder"),
        ("s.yaml", os.mkfifo, "is no regular file"),
        ("s.yaml", device_of, "is no regular file"),
        ("s.yaml", lambda p: p.write_text(STUDY.replace("A", "\xe9"), "latin-1"), "not UTF-8"),
        ("s.yaml", lambda p: p.write_text(STUDY, "utf-16"), "not UTF-8"),
        ("s.yaml", lambda p: p.write_bytes(b"#" * 6_000_000), "too large"),
        ("x" * 300, lambda p: None, "cannot be read"),
        ("y/" * 3000, lambda p: None, "cannot be read"),
        ("gone.yaml", lambda p: None, "does not exist"),
    ],
)
def test_files_that_are_no_study(tmp_path, name, make, words):
    make(tmp_path / name)
    (problem,) = problems_of(load.load, tmp_path / name)
    assert words in problem.what
    assert len(str(problem)) < 1000


@pytest.mark.parametrize("name", ["5", "true", "null", "1.5", "2020-01-01", "off", "~", "010"])
@pytest.mark.parametrize("section", ["cohorts", "encoders", "methods"])
def test_a_name_that_yaml_takes_for_something_else(tmp_path, section, name):
    old = {"cohorts": "A", "encoders": "e", "methods": "M"}[section]
    text = STUDY.replace(f"  {old}:", f"  {name}:")
    problems = problems_of(load.load, write(tmp_path, text))
    named = [p for p in problems if p.what.endswith("is no text to YAML")]
    assert len(named) == 1
    assert named[0].where.split(", key ")[1].startswith(f"{section}.")
    assert named[0].fix.startswith("put it in quotes: ")


@pytest.mark.parametrize(
    ("text", "value"), [("12:30", 750), ("0512", 330), ("010", 8), ("1:00:01", 3601)]
)
def test_numbers_that_yaml_takes_for_others(tmp_path, text, value):
    """Octal and base 60 of YAML 1.1 gave patches of 330 px in place of 512, silently."""
    study = STUDY + f"tile: {{patch_px: {text}}}\n"
    problems = problems_of(load.load, write(tmp_path, study))
    assert problems[0].what == f"{text} is the number {value} to YAML"
    assert problems[0].where.endswith("line 7, key tile.patch_px")
    in_list = "labels: {endpoint: class, column: x, classes: [a, 010]}\n"
    assert problems_of(load.load, write(tmp_path, STUDY + in_list))[0].what.startswith("010 is")
    for usual in ("512", "5_12", "0x200", "0"):
        text = STUDY + f"train: {{train_seed: {usual}}}\n"
        assert load.load(write(tmp_path, text)).train.train_seed in (512, 0)


def test_merge_keys_and_anchors_are_understood(tmp_path):
    encoders = "  e: &e {max_epochs: 3}\n  f: {<<: *e, input_px: 64}\n  g: *e"
    study = load.load(write(tmp_path, STUDY.replace("  e: {}", encoders)))
    assert {encoder.max_epochs for encoder in study.encoders.values()} == {3}
    assert study.encoders["f"].input_px == 64


def test_names_that_differ_only_in_case(tmp_path):
    """Where files have no upper and lower case one method's results would replace the other's."""
    text = STUDY.replace("  M: {encoder: e}", "  M: {encoder: e}\n  m: {encoder: e}")
    (problem,) = problems_of(load.load, write(tmp_path, text))
    assert problem.what.startswith("M and m differ only in case")
    assert problem.where.endswith("line 7, key methods.m")


def test_a_mistake_of_a_shared_section_is_reported_where_it_is_written(tmp_path):
    text = STUDY.replace("  e: {}", "  e: {}\n  f: {max_epoch: 3}") + "train: {max_epoch: 4}\n"
    problems = problems_of(load.load, write(tmp_path, text))
    places = sorted(problem.where.split(", key ")[1] for problem in problems)
    assert places == ["encoders.f.max_epoch", "train.max_epoch"]
    assert {problem.fix for problem in problems} == {"did you mean max_epochs?"}


def test_the_word_of_a_step_is_suggested(tmp_path):
    (problem,) = problems_of(load.load, write(tmp_path, STUDY + "training: {}\n"))
    assert problem.fix == "did you mean train?"


ODD = (
    *(5, True, None, 1.5, "", [], {}, {"a": {"b": 1}}, ["x", 5], {5: 5}, float("nan"), [[1]]),
    *(-1, 10**30, datetime.date(2020, 1, 1), "\u2028" * 300),
)


def places(value, at=()):
    """Every place of a study's values."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*at, key)
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*at, key))


@pytest.mark.parametrize("seed", range(4))
def test_any_value_anywhere_is_read_or_refused(seed):
    """Values of the demo study replaced at random, a few at a time: never anything but mistakes."""
    import random

    draw = random.Random(seed)
    study = yaml.safe_load((ROOT / "config.yaml").read_text())
    where = list(places(study))
    for _ in range(12):
        changed = copy.deepcopy(study)
        for place in draw.sample(where, 3):
            inner = changed
            try:
                for key in place[:-1]:
                    inner = inner[key]
                inner[place[-1]] = draw.choice(ODD)
            except (KeyError, TypeError, IndexError):
                continue  # another change has replaced this place
        try:
            load.check(changed, "study.yaml")
        except Her2Error as error:
            for problem in getattr(error, "problems", [error]):
                assert len(str(problem).splitlines()) == 3
