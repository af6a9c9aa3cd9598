"""Versions of this program and of the libraries that a study's numbers come from."""

from __future__ import annotations

import platform
from importlib import metadata

from her2pipe import __version__
from her2pipe.models.description import ModelDescription
from her2pipe.reporting.inputs import ReportInputs

# Everything that her2pipe is installed with, and what reads slides and images below it.
LIBRARIES = (
    "numpy", "scipy", "pandas", "scikit-learn", "scikit-posthocs", "scikit-image", "statsmodels",
    "lifelines", "matplotlib", "pillow", "opencv-python", "simplejpeg", "imagecodecs", "tifffile",
    "h5py", "shapely", "openslide-python", "openslide-bin", "tiatoolbox", "torch", "torchvision",
    "timm", "torch-geometric", "onnx", "onnxruntime", "safetensors", "threadpoolctl", "pydantic",
    "pyyaml", "jinja2", "bokeh", "openpyxl", "shtab", "snakemake",
)  # fmt: skip


def versions(inputs: ReportInputs) -> dict[str, str]:
    """Return versions of this program and its libraries, as known here or in a model."""
    trained: dict[str, str] = {}
    for folder in inputs.manifest.paths("train"):
        trained |= ModelDescription.read(folder).versions
    numbers = {"her2pipe": __version__, "Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            numbers[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name in trained:
                numbers[name] = f"{trained[name]} (training)"
    return numbers
