"""Write what pip installs into each environment: versions of requirements.txt, and no others.

Under `pip:` an environment file first names what its rules import; what these need in turn follows.
`make pins` keeps the names of the first part and writes the rest.
"""

import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

HERE = Path(__file__).resolve().parent
PINS = HERE.parent / "requirements.txt"
INDENT = "      "
NEEDED = f"{INDENT}# What these need:\n"
COMPILE = (
    *("pip", "compile", "-q", "--universal", "--python-version", "3.11", "--no-header"),
    *("--no-annotate", "--no-emit-index-url", "-c", str(PINS), "-"),
)
# Packages that only another system or Python needs stay out.
TARGET = {
    **{"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux"},
    **{"platform_machine": "x86_64", "python_version": "3.11", "python_full_version": "3.11.9"},
}


def split(text: str) -> tuple[str, list[str]]:
    """Return an environment file up to its pip section, and the names that its rules import."""
    head, _, section = text.partition("  - pip:\n")
    named = section.partition(NEEDED)[0]
    return f"{head}  - pip:\n", re.findall(r"- ([\w.-]+)", named)


def main() -> None:
    """Renew every environment file."""
    uv = Path(sys.executable).parent / "uv"
    for path in sorted(HERE.glob("*.yaml")):
        head, names = split(path.read_text(encoding="utf-8"))
        listing = "\n".join(sorted(names))
        run = subprocess.run(
            [uv, *COMPILE], input=listing, capture_output=True, text=True, check=True
        )
        wanted = [Requirement(line) for line in run.stdout.splitlines()]
        pins = {
            each.name: f"{each.name}{each.specifier}"
            for each in wanted
            if each.marker is None or each.marker.evaluate(TARGET)
        }
        first = "".join(f"{INDENT}- {pins.pop(name)}\n" for name in sorted(names))
        rest = "".join(f"{INDENT}- {pin}\n" for pin in pins.values())
        path.write_text(head + first + NEEDED + rest, encoding="utf-8")


if __name__ == "__main__":
    main()
