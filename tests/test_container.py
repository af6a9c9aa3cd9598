"""The image: one script installs it; Apptainer's definition does what the Dockerfile does."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from her2pipe.installation.extras import OPENCV_NEEDS

ROOT = Path(__file__).parents[1]
CONTAINER = ROOT / "container"
sys.path[:0] = [str(CONTAINER)]

import definition  # noqa: E402

DOCKERFILE = (ROOT / "Dockerfile").read_text()
IGNORED = (ROOT / ".dockerignore").read_text()
TINY = """\
ARG BASE=a:1

FROM ${BASE} AS one
ARG SPEED="fast"
COPY . /source
WORKDIR /source
RUN make \\
    ${SPEED}
FROM ${BASE}
COPY --from=one /out /out
WORKDIR /out
RUN ./check
ENV PATH=/out
ENV NVIDIA_VISIBLE_DEVICES=all
USER 1000
"""
TINY_DEFINITION = """
Bootstrap: docker
From: {{ BASE }}
Stage: one

%arguments
    BASE=a:1
    SPEED=fast

%files
    x /source/x
    y /source/y

%post
    cd /source
    make {{ SPEED }}

Bootstrap: docker
From: {{ BASE }}
Stage: image

%arguments
    BASE=a:1

%files from one
    /out /out

%post
    cd /out
    ./check

%environment
    export PATH=/out
"""


def steps(text):
    """The calls of container/install in a text."""
    return re.findall(r"container/install (?:system|package|user).*", text)


def words_of(name):
    return [words for word, words in definition.instructions(DOCKERFILE) if word == name]


def test_a_definition_does_what_its_dockerfile_does():
    text = definition.definition(TINY, "*\n!x\n!y\n**/__pycache__\n")
    assert text == definition.HEAD + TINY_DEFINITION


def test_the_definition_is_that_of_the_dockerfile():
    """`make definition` renews it."""
    assert (CONTAINER / "her2pipe.def").read_text() == definition.definition(DOCKERFILE, IGNORED)


def test_every_step_of_the_image_is_one_of_the_script():
    runs = words_of("RUN")
    assert [run for run in runs if not steps(run)] == []
    script = (CONTAINER / "install").read_text()
    known = set(re.findall(r"^(\w+)\)$", script, re.M))
    assert {step.split()[1] for step in steps("\n".join(runs))} == known
    assert {step.split()[2] for step in steps("\n".join(runs)) if " system " in step} <= set(
        re.findall(r"^  (\w+)\) packages=", script, re.M)
    )


def test_the_site_chooses_base_and_cuda_and_the_user_is_not_root():
    assert words_of("ARG") == ["BASE=debian:12-slim", "VERSION=0.1.0.dev0", 'CUDA=""']
    assert words_of("FROM") == ["${BASE} AS build", "${BASE}"]
    assert words_of("USER") == ["1000"]


def test_all_that_the_wheel_is_built_from_reaches_the_image():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], *project["project"]["license-files"]}
    needed |= {"pyproject.toml", "requirements.txt", "container", project["project"]["readme"]}
    assert set(definition.let_through(IGNORED)) == needed
    assert IGNORED.splitlines()[1] == "*"


def test_the_script_names_what_it_cannot_do():
    for words, wrong in ((["dance"], "step dance"), (["system", "dance"], "packages to dance")):
        run = subprocess.run([CONTAINER / "install", *words], capture_output=True, text=True)
        assert run.returncode == 1
        assert wrong in run.stderr


def test_one_version_of_uv_installs_everywhere():
    texts = [(ROOT / name).read_text() for name in ("Makefile", "container/install")]
    assert {version for text in texts for version in re.findall(r"\buv==([\d.]+)", text)} == {
        "0.13.9"
    }


def test_opencv_finds_its_libraries_everywhere():
    """What the message of a missing library names is what the image has."""
    packages = re.search(r'^run="(.*)"$', (CONTAINER / "install").read_text(), re.M)[1].split()
    assert set(OPENCV_NEEDS.split()) <= set(packages)
