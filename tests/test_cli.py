"""The command line: help for everybody, three lines for mistakes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from her2pipe import cli


def test_overview_names_every_verb(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in cli.VERBS:
        assert re.search(rf"^  {verb} +\S", text, re.M)


def test_help_of_every_verb(capsys):
    """Each verb has one, and no flag twice, which argparse would refuse."""
    without = []
    for verb in cli.VERBS:
        with pytest.raises(SystemExit) as stop:
            cli.main([verb, "--help"])
        if stop.value.code != 0 or f"usage: her2pipe {verb}" not in capsys.readouterr().out:
            without.append(verb)
    assert without == []


def test_what_was_meant_is_named(her2pipe):
    for words, hint in (
        (["scor"], "did you mean score?"),
        (["score", "--agregate", "mean", "in", "out"], "did you mean --aggregate?"),
        (["tile", "in", "out", "--pach-px=12"], "did you mean --patch-px?"),
        (["report", "one", "two", "three"], "her2pipe report --help lists all"),
    ):
        code, message = her2pipe(*words)
        assert code == 1
        assert hint in message.splitlines()[2], message


def test_flags_of_the_workflow_alone_are_not_shown(capsys):
    for verb in ("evaluate", "score"):
        with pytest.raises(SystemExit):
            cli.main([verb, "--help"])
    text = capsys.readouterr().out
    assert "--role" in text
    assert "--cutoffs" in text
    assert [flag for flag in ("--algorithm", "--trained ", "--held-out-by") if flag in text] == []


def test_shells_complete_verbs_and_flags(capsys):
    pytest.importorskip("shtab")
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in (" score ", " cohort ", "--aggregate", "--patch-px"))


def test_help_needs_no_library(tmp_path):
    """The overview is a table: neither pydantic nor numpy is imported for it."""
    code = "import sys; from her2pipe import cli; cli.main(['--help']); print(sorted(sys.modules))"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'pydantic'" not in text.stdout
    assert "'numpy'" not in text.stdout


def test_mistakes_take_three_lines(her2pipe, tmp_path):
    for words in (
        ["tilt"],
        ["tile", tmp_path / "none.svs", tmp_path / "out.h5"],
        ["tile", tmp_path / "none.svs", tmp_path / "out.h5", "--patch-px", "0"],
        ["score", tmp_path / "none.h5", tmp_path / "out.tsv"],
        ["report", tmp_path / "none.tsv", tmp_path / "x.html"],
    ):
        code, message = her2pipe(*words)
        assert code == 1
        lines = message.splitlines()
        assert [line[:8] for line in lines] == ["her2pipe", "  where:", "  fix:  "], message
    assert list(tmp_path.iterdir()) == []


def test_arguments_may_stand_before_and_after_options(her2pipe, make, tmp_path):
    make.encoding(tmp_path / "S1.h5", [[0.1, 0.9, 0]])
    out = tmp_path / "scores.tsv"
    assert her2pipe("score", tmp_path / "S1.h5", "--aggregate", "mean", out)[0] == 0
    assert out.exists()


@pytest.mark.slow
def test_the_installed_command():
    command = Path(sys.executable).parent / "her2pipe"
    run = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == cli.__version__
