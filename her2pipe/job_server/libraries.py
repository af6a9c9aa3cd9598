"""The libraries that jobs of each step import when they come to need them.

A parent imports them before the first job of a step, which would import them itself otherwise, and
the parent after it a second time. A step that is not named here, or a library that is missing here,
costs that and nothing else; a library that no job needs is imported for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

# What every job imports beside its step.
OF_COMMAND = ("her2pipe.parsers", "her2pipe.config.flags")
FIGURES = ("matplotlib.figure", "matplotlib.style", "matplotlib.backends.backend_agg",
           "matplotlib.backends.backend_svg", "cv2")  # fmt: skip
STATISTICS = ("scipy.stats.contingency", "sklearn.preprocessing", "sklearn.metrics")
NETWORKS = ("torch", "torchvision.io", "timm.layers", "h5py", "simplejpeg", "cv2")
STORES = ("h5py", "simplejpeg", "cv2")
SLIDES = (*STORES, "tifffile", "imagecodecs", "shapely")

OF_STEPS: dict[str, Sequence[str]] = {
    "bundle": ("yaml", "h5py"),
    "compare": (*FIGURES, *STATISTICS, "pandas", "statsmodels.stats.multitest", "yaml"),
    "describe": (*STORES, *FIGURES, "skimage.feature", "skimage.filters", "skimage.segmentation",
                 "scipy.stats.contingency", "pandas", "scikit_posthocs"),
    "encode": NETWORKS,
    "evaluate": (*FIGURES, *STATISTICS, "sklearn.linear_model", "h5py"),
    "fit": ("torch", "h5py", "safetensors.numpy"),
    "heatmap": (*STORES, *FIGURES),
    "ledger": (),
    "preflight": (*SLIDES, "PIL.Image", "openslide"),
    "pretrain": NETWORKS,
    "quality": ("h5py",),
    "report": (*STORES, *FIGURES, "matplotlib.backends.backend_pdf", "bokeh.document",
               "bokeh.models", "bokeh.models.annotations.dimensional", "jinja2",
               "scipy.stats.contingency"),
    "score": ("h5py",),
    "synthesise": ("cv2",),
    "tile": SLIDES,
    "train": (*NETWORKS, *FIGURES, "torch.utils.flop_counter"),
}  # fmt: skip


def of_step(step: str) -> list[str]:
    """Return the modules that a job of a step is likely to import; none of an unknown one."""
    if step not in OF_STEPS:
        return []
    return [*OF_COMMAND, f"her2pipe.steps.{step}", *OF_STEPS[step]]
