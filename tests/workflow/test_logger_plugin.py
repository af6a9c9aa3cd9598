"""Study files are read with limits before Snakemake reads them; events of a run as JSON lines."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import snakemake_logger_plugin_her2pipe as plugin
from her2pipe.installation.location import snakefile
from snakemake_logger_plugin_her2pipe.study_files import study_files

OURS = str(snakefile())
NINE = "".join(f"k{i}: 1, " for i in range(9))
BOMB = f"a: &a {{{NINE}}}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{f'*{chr(97 + i)}, ' * 9}]\n" for i in range(9)
)
HARMFUL = {
    "not UTF-8": ("title: caf\xe9".encode("latin-1"), "not UTF-8 text"),
    "UTF-16": ("title: a".encode("utf-16"), "not UTF-8 text"),
    "aliases": (BOMB.encode(), "aliases"),
    "nested": (b"a: " + b"[" * 3000, "nested too deep"),
    "zeros": (b"title: \0\0", "not YAML"),
}


@pytest.fixture
def call(monkeypatch):
    def call(*words, program="/usr/bin/snakemake"):
        monkeypatch.setattr(sys, "argv", [program, *map(str, words)])
        plugin._check_study_files()

    return call


def test_study_files_of_a_command_line(tmp_path):
    """As Snakemake's parser takes them; none of another workflow or of a faulty command line."""
    a, b, standard = Path("a.yaml"), Path("b.yaml"), Path(OURS).parent / "config.yaml"
    assert study_files(["-s", OURS, "--configfile", "a.yaml", "b.yaml", "-n"]) == [a, b]
    assert study_files(["--configfile=a.yaml", f"-s{OURS}", "--cores", "1"]) == [a]
    assert study_files(["--configfiles", "a.yaml", f"--snakefile={OURS}"]) == [a]
    assert study_files(["-s", OURS, "--config", "study={title: x}", "-n"]) == [standard]
    assert study_files(["--cores", "2", "--configfile", "a.yaml"], Path(OURS).parent) == [
        standard.parent / a
    ]
    (tmp_path / "Snakefile").write_text("rule all:\n")
    assert study_files(["--configfile", "a.yaml"], tmp_path) == []
    assert study_files(["-s", "absent", "--configfile", "a.yaml"], tmp_path) == []
    assert study_files(["-s", OURS, "--configfile"]) == []


@pytest.mark.faults
@pytest.mark.parametrize("kind", HARMFUL)
def test_harmful_study_files_are_refused_in_three_lines(call, tmp_path, kind):
    content, reason = HARMFUL[kind]
    study = tmp_path / "study.yaml"
    study.write_bytes(content)
    with pytest.raises(SystemExit) as end:
        call("-s", OURS, "--configfile", study, "-n")
    what, where, fix = str(end.value).split("\n")
    assert reason in what
    assert str(study) in where
    assert fix.startswith("  fix: ")
    call("-s", OURS, "--configfile", study, "-n", program="/usr/bin/pytest")  # a library's caller


@pytest.mark.slow
@pytest.mark.faults
def test_snakemake_loads_the_plugin_before_a_study_file(tmp_path):
    study = tmp_path / "study.yaml"
    study.write_bytes(HARMFUL["aliases"][0])
    words = ["-s", OURS, "--configfile", study, "--cores", "1", "-n", "--directory", tmp_path]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("\n".join(load_lines(study)))


def load_lines(study):
    from her2pipe.config import load
    from her2pipe.errors import Her2Error

    with pytest.raises(Her2Error) as refusal:
        load.read(study)
    return str(refusal.value).split("\n")


def test_events_are_lines_of_json(tmp_path):
    """Those of Snakemake keep their fields; what JSON lacks becomes text; a second run appends."""
    path = tmp_path / "logs" / "run.jsonl"
    for number in range(2):
        handler = plugin.LogHandler(None, plugin.LogHandlerSettings(file=path))
        record = logging.LogRecord("snakemake", logging.INFO, "", 0, None, (), None)
        record.msg, record.created = "", 10.25 + number
        vars(record).update(event="job_started", jobs=[3], output=[Path("a.h5")])
        handler.handle(record)
        handler.handle(
            logging.LogRecord("snakemake", logging.ERROR, "", 0, "no %s", ("disk",), None)
        )
        handler.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 4
    assert lines[2] == {
        **{"time": 11.25, "level": "info", "event": "job_started", "jobs": [3], "output": ["a.h5"]},
    }
    assert (lines[3]["level"], lines[3]["message"]) == ("error", "no disk")
    assert handler.baseFilename == str(path)
    assert handler.writes_to_file
    assert not handler.writes_to_stream
