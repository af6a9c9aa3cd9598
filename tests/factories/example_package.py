"""An installed package of somebody else's, made of the examples in docs/architecture.md."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = "her2pipe_example"


def examples():
    """Return the examples of the page: code by name, as in ```` ```python title="max.py" ````."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return dict(re.findall(r'^```python title="(\w+)\.py"\n(.*?)^```$', text, re.M | re.S))


def install(folder):
    """Write the package with its entry points, as pip leaves it; return the path to import from."""
    package = folder / NAME
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for name, code in examples().items():
        (package / f"{name}.py").write_text(code)
    dist_info = folder / f"{NAME}-1.0.dist-info"
    dist_info.mkdir()
    (dist_info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n")
    entries = "".join(f"{name} = {NAME}.{name}\n" for name in examples())
    (dist_info / "entry_points.txt").write_text(f"[her2pipe.plugins]\n{entries}")
    return folder
