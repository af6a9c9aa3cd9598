"""Libraries of extras: what is missing is named with the extra that installs it."""

import tomllib
from pathlib import Path

import pytest
import slides
from small_study import STUDY, sheet_lines, write_study

from her2pipe import cli
from her2pipe.config import SlidesSettings, load
from her2pipe.errors import BadSlideError
from her2pipe.installation import extras
from her2pipe.slides.open import open_slide
from her2pipe.workflow import preflight
from her2pipe.workflow.study import Study

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.fixture
def without(monkeypatch):
    """A Python that has none of the extras."""
    find_spec = extras.find_spec
    monkeypatch.setattr(
        extras, "find_spec", lambda name: None if name in extras.EXTRAS else find_spec(name)
    )


def test_every_extra_installs_what_it_is_named_for():
    """And the core does not."""
    wrong = []
    for library, (extra, _) in extras.EXTRAS.items():
        name = library.replace("_", "-")
        if not any(line.startswith(name) for line in PROJECT["optional-dependencies"][extra]):
            wrong.append(f"{extra} lacks {name}")
        if any(line.startswith(name) for line in PROJECT["dependencies"]):
            wrong.append(f"the core has {name}")
    assert wrong == []


def test_a_failed_import_is_three_lines_wherever_it_happens(without, her2pipe, monkeypatch):
    def verb(*_):
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx.helper")

    monkeypatch.setattr(cli, "_run", verb)
    assert her2pipe("deploy") == (
        1,
        "her2pipe: onnx is not installed, which is needed for writing networks as ONNX\n"
        "  where: extra deploy of her2pipe\n"
        '  fix:   pip install "her2pipe[deploy]"\n',
    )


def test_a_library_that_the_system_lacks_is_named_with_its_package():
    text = "libGL.so.1: cannot open shared object file: No such file or directory"
    error = extras.of_import(ImportError(text, name="cv2"))
    assert error.what == "the system lacks the library libGL.so.1"
    assert "apt-get install libgl1" in error.fix
    memory = ImportError("libtorch.so: failed to map segment from shared object", name="torch")
    assert cli._mistake(memory, "train").what == "out of memory"


def test_an_import_that_no_extra_mends_is_a_bug(without):
    assert extras.of_import(ModuleNotFoundError(name="nothing")) is None
    assert extras.of_import(ImportError("cannot import name")) is None


def test_a_format_that_only_tiatoolbox_reads_is_no_bad_slide(without, tmp_path):
    path = tmp_path / "image.jp2"
    path.write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100))
    with pytest.raises(extras.MissingLibraryError, match="tiatoolbox is not installed"):
        open_slide(path, SlidesSettings())


def test_a_damaged_slide_of_a_known_format_is_one_without_it_too(without, tmp_path):
    path = slides.svs(tmp_path / "a.svs", slides.tissue(300, 200, seed=1), mpp=0.25)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadSlideError, match="unreadable"):
        open_slide(path, SlidesSettings())


def test_planning_names_what_the_study_will_need(without, tmp_path, monkeypatch):
    study = STUDY | {"slides": {"reader": "tiatoolbox"}, "deploy": {"encoders": ["small"]}}
    write_study(tmp_path, study, {"A": sheet_lines("A", 6), "B": sheet_lines("B", 2)})
    monkeypatch.chdir(tmp_path)
    loaded = Study.load(load.read("study.yaml"), "study.yaml")
    fixes = [error.fix for error in preflight.missing_libraries(loaded)]
    assert fixes == ['pip install "her2pipe[formats]"'] + 2 * ['pip install "her2pipe[deploy]"']
