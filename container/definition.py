"""Write Apptainer's definition of the image from the Dockerfile: `make definition`.

Both take the same steps. What Apptainer has no use for is left out: an image's user, for it runs as
whoever calls it, and NVIDIA's variables, for it has an option, --nv.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
HEAD = """\
# Written by container/definition.py from the Dockerfile: change that, then `make definition`.
# In a clone, with Apptainer 1.2 or newer; the base pinned, and torch for another CUDA, as there:
#   apptainer build --build-arg BASE=debian@sha256:... her2pipe.sif container/her2pipe.def
"""
LAST = "image"  # the stage that the Dockerfile does not name


@dataclass
class Stage:
    """One stage of a build, from a base image."""

    base: str
    name: str
    arguments: dict[str, str]  # with their defaults
    copies: dict[str, list[str]] = field(default_factory=dict)  # by the stage they come from, or ""
    steps: list[str] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)

    def copy(self, words: str, files: list[str]) -> None:
        """Add a COPY; all of the clone is the files of it that are let through."""
        option = re.match(r"--from=(\S+) ", words)
        origin = option[1] if option else ""
        source, target = words[option.end() if option else 0 :].split()
        names = files if source == "." else [""]
        lines = [f"{name or source} {target}{'/' if name else ''}{name}" for name in names]
        self.copies.setdefault(origin, []).extend(lines)

    def run(self, folder: str, words: str) -> None:
        """Add a RUN in a folder."""
        if f"cd {folder}" not in self.steps:
            self.steps.append(f"cd {folder}")
        self.steps.append(words)

    def __str__(self) -> str:
        """Return the stage as a definition has it."""
        sections = {"arguments": [f"{name}={value}" for name, value in self.arguments.items()]}
        for origin, lines in self.copies.items():
            sections[f"files from {origin}" if origin else "files"] = lines
        sections |= {"post": self.steps, "environment": self.environment}
        blocks = [
            "".join([f"%{title}\n", *(f"    {line}\n" for line in lines)])
            for title, lines in sections.items()
            if lines
        ]
        header = f"Bootstrap: docker\nFrom: {self.base}\nStage: {self.name}\n"
        return "\n".join([header, *blocks])


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, each with its words."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined.splitlines()]


def let_through(text: str) -> list[str]:
    """Return what a .dockerignore that excludes all else lets through."""
    return [line[1:] for line in text.splitlines() if line.startswith("!")]


def definition(dockerfile: str, ignored: str) -> str:
    """Return Apptainer's definition that does what a Dockerfile does."""
    shared: dict[str, str] = {}  # arguments ahead of the first stage
    stages: list[Stage] = []
    folder = "/"
    for name, docker_words in instructions(dockerfile):
        words = re.sub(r"\$\{(\w+)\}", r"{{ \1 }}", docker_words)
        if name == "ARG":
            key, _, value = words.partition("=")
            (stages[-1].arguments if stages else shared)[key] = value.strip('"')
        elif name == "FROM":
            base, _, title = words.partition(" AS ")
            stages.append(Stage(base, title or LAST, dict(shared)))
        elif name == "COPY":
            stages[-1].copy(words, let_through(ignored))
        elif name == "WORKDIR":
            folder = words
        elif name == "RUN" and "install user" not in words:
            stages[-1].run(folder, words)
        elif name == "ENV" and not words.startswith("NVIDIA_"):
            stages[-1].environment.append(f"export {words}")
    return "\n".join([HEAD, *map(str, stages)])


def main() -> None:
    """Renew the definition."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    (HERE / "her2pipe.def").write_text(definition(dockerfile, ignored), encoding="utf-8")


if __name__ == "__main__":
    main()
