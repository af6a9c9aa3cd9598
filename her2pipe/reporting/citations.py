"""Section "Settings, versions, citations": how the numbers were computed, and what to cite."""

from __future__ import annotations

import json
import platform
from importlib import metadata

from her2pipe import __version__
from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.models.description import ModelDescription
from her2pipe.registry import STAIN_METHODS, Citation
from her2pipe.reporting.html import Block, Custom, Folded, Heading, Text
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.sections import SECTIONS, Section

LIBRARIES = (
    "numpy", "scipy", "pandas", "scikit-learn", "scikit-posthocs", "matplotlib", "bokeh", "jinja2",
    "h5py", "opencv-python", "simplejpeg", "pydantic", "torch", "torchvision", "timm",
    "tiatoolbox", "openslide-python", "tifffile", "imagecodecs", "shapely", "safetensors",
    "snakemake",
)  # fmt: skip
WORKS = (
    Citation("TL-PA", "Li et al. 2025", "Breast Cancer Research 27:62",
             "10.1186/s13058-025-02008-7"),
    Citation("HER2 testing guideline", "Wolff et al. 2018", "Journal of Clinical Oncology 36:2105",
             "10.1200/JCO.2018.77.8738"),
    Citation("Variance and comparison of AUCs", "DeLong et al. 1988", "Biometrics 44:837",
             "10.2307/2531595"),
    Citation("Their fast computation", "Sun and Xu 2014", "IEEE Signal Processing Letters 21:1389",
             "10.1109/LSP.2014.2337313"),
    Citation("AUC of clustered data", "Obuchowski 1997", "Biometrics 53:567", "10.2307/2533958"),
    Citation("Shares of clustered data", "Rao and Scott 1992", "Biometrics 48:577",
             "10.2307/2532311"),
    Citation("Intervals in place of variances of 0", "Clopper and Pearson 1934",
             "Biometrika 26:404", "10.1093/biomet/26.4.404"),
    Citation("Rank-sum tests of many groups", "Dunn 1964", "Technometrics 6:241",
             "10.1080/00401706.1964.10490181"),
    Citation("Step-down adjustment", "Holm 1979", "Scandinavian Journal of Statistics 6:65", ""),
    Citation("Interval of rank correlation", "Bonett and Wright 2000", "Psychometrika 65:23",
             "10.1007/BF02294183"),
    Citation("Interval of proportions", "Wilson 1927",
             "Journal of the American Statistical Association 22:209",
             "10.1080/01621459.1927.10502953"),
    Citation("Weighted kappa", "Cohen 1968", "Psychological Bulletin 70:213", "10.1037/h0026256"),
    Citation("Swin Transformer", "Liu et al. 2021", "IEEE/CVF ICCV, 9992",
             "10.1109/ICCV48922.2021.00986"),
    Citation("timm", "Wightman 2019", "PyTorch Image Models", "10.5281/zenodo.4414861"),
    Citation("PyTorch 2", "Ansel et al. 2024", "ACM ASPLOS, 929", "10.1145/3620665.3640366"),
    Citation("Snakemake", "Mölder et al. 2021", "F1000Research 10:33",
             "10.12688/f1000research.29032.2"),
    Citation("OpenSlide", "Goode et al. 2013", "Journal of Pathology Informatics 4:27",
             "10.4103/2153-3539.119005"),
    Citation("TIAToolbox", "Pocock et al. 2022", "Communications Medicine 2:120",
             "10.1038/s43856-022-00186-5"),
)  # fmt: skip
RESPONSE = (
    Citation("Residual cancer burden", "Symmans et al. 2007",
             "Journal of Clinical Oncology 25:4414", "10.1200/JCO.2007.10.6823"),
)  # fmt: skip
# By what a study uses: its endpoint, a step.
WORKS_BY_USE = {
    "her2": RESPONSE,
    "class": (
        Citation("Exact comparison of calls", "McNemar 1947", "Psychometrika 12:153",
                 "10.1007/BF02295996"),
        Citation("Comparison of calls by patient", "Yang et al. 2010", "Biometrical Journal 52:638",
                 "10.1002/bimj.201000035"),
        Citation("Resampling of patients", "Davison and Hinkley 1997",
                 "Bootstrap Methods and their Application, Cambridge University Press",
                 "10.1017/CBO9780511802843"),
    ),
    "explain": (
        Citation("Grad-CAM", "Selvaraju et al. 2017",
                 "IEEE International Conference on Computer Vision, 618", "10.1109/ICCV.2017.74"),
    ),
}  # fmt: skip


@SECTIONS.register("settings")
class Settings(Section):
    """Statistics in words, all settings, versions, and works to cite."""

    title = "Settings, versions, citations"
    place = 120

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return the statistics in words, the settings, the versions and the citations."""
        methods = inputs.endpoint().caption_methods.format(percent=inputs.percent)
        settings = json.dumps(inputs.study.settings, indent=1)
        return [
            Heading("How the numbers are computed"),
            Text(methods),
            Folded("All settings of the study", [Custom("listing", settings)], "part"),
            Heading("Versions"),
            Custom("versions", versions(inputs)),
            Heading("Citations"),
            Custom("citations", cited_works(inputs)),
        ]


def cited_works(inputs: ReportInputs) -> list[Citation]:
    """Return the works to cite: the general ones, and those of what the study uses."""
    uses = [inputs.endpoint().name, *(["explain"] if inputs.manifest.select("explain") else [])]
    works = [work for use in uses for work in WORKS_BY_USE.get(use, ())]
    for name in dict.fromkeys(e.metrics.aggregation for e in inputs.evaluations):
        works += AGGREGATIONS[name].citations if name else ()
    works += STAIN_METHODS[inputs.study.setting("stain", "stain_method", "vahadane")].citations
    return list(dict.fromkeys([WORKS[0], *works, *WORKS[1:]]))


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
