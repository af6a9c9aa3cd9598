"""`her2pipe run`: the study file is checked, and Snakemake called by a command to be seen."""

import shlex
import signal
import sys
from pathlib import Path

import pytest
from small_study import STUDY, sheet_lines, write_study

from her2pipe.cli import main
from her2pipe.errors import Her2Error
from her2pipe.installation import location
from her2pipe.workflow import launch

HERE = Path(__file__).parent


@pytest.fixture
def study_file(tmp_path):
    write_study(tmp_path, STUDY, {"A": sheet_lines("A", 4), "B": sheet_lines("B", 2)})
    return tmp_path / "study.yaml"


def after(words, option):
    """Return the word that follows an option, the last time it stands there."""
    return words[len(words) - words[::-1].index(option)]


def test_a_study_runs_in_its_folder_with_its_profile(study_file):
    words = launch.command(study_file, cores="4", options=["--until", "tile"])
    assert words[:3] == [sys.executable, "-m", "snakemake"]
    assert after(words, "--snakefile") == str(location.snakefile())
    assert after(words, "--configfile") == str(study_file)
    assert after(words, "--directory") == str(study_file.parent)
    assert after(words, "--workflow-profile") == str(location.project() / "profiles/default")
    assert words[-4:] == ["--cores", "4", "--until", "tile"]
    own = study_file.parent / "profiles/default"
    own.mkdir(parents=True)
    assert after(launch.command(study_file), "--workflow-profile") == str(own)


def test_all_cores_unless_something_else_says_how_many(study_file):
    assert launch.command(study_file)[-2:] == ["--cores", "all"]
    for options in (["-c2"], ["--jobs=9"], ["--executor", "slurm"], ["--profile", "x"]):
        assert "all" not in launch.command(study_file, options=options), options


def test_a_profile_has_a_name_or_a_folder(study_file):
    shipped = launch.command(study_file, profile="slurm")
    assert after(shipped, "--profile") == str(location.project() / "profiles/slurm")
    assert "--cores" not in shipped
    (study_file.parent / "profiles/slurm").mkdir(parents=True)
    own = launch.command(study_file, profile="slurm")
    assert after(own, "--profile") == str(study_file.parent / "profiles/slurm")
    with pytest.raises(Her2Error, match="no profile pbs") as error:
        launch.command(study_file, profile="pbs")
    assert error.value.fix == "give its folder, or one of: default, generic, htcondor, slurm"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"study: {title: caf\xe9}", "the study file is not UTF-8 text (byte 19)"),
        (b"a: &a [*a]", "a value of the study file holds itself"),
        (b"cohorts: {}\nsorts: 1", "unknown key sorts"),
    ],
)
def test_a_bad_study_never_reaches_snakemake(tmp_path, her2pipe, monkeypatch, content, message):
    monkeypatch.setattr(launch, "call", lambda words: pytest.fail("Snakemake was called"))
    (tmp_path / "study.yaml").write_bytes(content)
    code, stderr = her2pipe("run", tmp_path / "study.yaml", "--cores", "1")
    assert code == 1
    assert message in stderr
    assert "\n  fix:   " in stderr


def test_settings_of_the_command_line_may_complete_a_study(study_file):
    """What `--config` gives, only Snakemake sees: it checks the whole."""
    study_file.write_text("{}")
    with pytest.raises(Her2Error):
        launch.command(study_file)
    assert launch.command(study_file, options=["--config", "x=1"])[-2:] == ["--config", "x=1"]


def test_options_are_passed_on_and_so_is_the_exit_code(study_file, monkeypatch):
    calls = []
    monkeypatch.setattr(launch, "call", lambda words: calls.append(words) or 3)
    words = ["run", str(study_file), "-n", "--cores", "2", "--", "--until", "tile", "-p"]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 3
    assert calls[0][-6:] == ["--cores", "2", "--dry-run", "--until", "tile", "-p"]


def test_the_command_is_printed_and_its_end_reported(capfd):
    words = [sys.executable, "-c", "import sys; sys.exit(7)"]
    before = signal.getsignal(signal.SIGTERM)
    assert launch.call(words) == 7
    assert capfd.readouterr().err == f"{shlex.join(words)}\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_installed_package_is_linked_for_other_pythons(tmp_path, monkeypatch):
    """A folder with the package and none of the libraries beside it; a stale link is renewed."""
    assert location.import_path() == Path(location.PACKAGE).parent
    built_in = tmp_path / "site-packages/her2pipe/project"
    built_in.mkdir(parents=True)
    monkeypatch.setattr(location, "PACKAGE", built_in.parent)
    monkeypatch.setattr(location, "BUILT_IN", built_in)
    monkeypatch.chdir(tmp_path)
    link = tmp_path / location.LINKS / "her2pipe"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "gone")
    for _ in range(2):
        assert location.import_path() == link.parent
        assert link.resolve() == built_in.parent
    assert [path.name for path in link.parent.iterdir()] == ["her2pipe"]
