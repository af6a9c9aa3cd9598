"""Section "Settings, versions, citations": how the numbers were computed, and what to cite."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.config import Config, PretrainSettings, TrainSettings
from her2pipe.config import Section as SettingsSection
from her2pipe.config.aggregation import fit_settings
from her2pipe.config.base import CHOICE, is_choice
from her2pipe.models.description import ModelDescription
from her2pipe.registry import PRESETS, STAIN_METHODS, Citation
from her2pipe.reporting import html
from her2pipe.reporting.disclosure.versions import versions
from her2pipe.reporting.html import Block, Column, Custom, Folded, Heading, Text
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.sections import SECTIONS, Section

CHOICES_TITLE = "Settings that no paper states"
CHOICES = (
    "Settings that results depend on and that the papers of the methods do not state. The default "
    "is a choice of her2pipe; where the value differs, it is this study's."
)
CHOICE_COLUMNS = (
    Column("setting", "Setting"),
    Column("value", "Value", "written"),
    Column("default", "Default", "written"),
    Column("meaning", "Meaning"),
)
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
CALLS = (
    Citation("Intervals of likelihood ratios", "Simel et al. 1991",
             "Journal of Clinical Epidemiology 44:763", "10.1016/0895-4356(91)90128-V"),
    Citation("Calibration slope, calibration in the large", "Van Calster et al. 2019",
             "BMC Medicine 17:230", "10.1186/s12916-019-1466-7"),
)  # fmt: skip
DECISION = (
    Citation("Decision curves", "Vickers and Elkin 2006", "Medical Decision Making 26:565",
             "10.1177/0272989X06295361"),
)  # fmt: skip
# By what a study uses: its endpoint, a step.
WORKS_BY_USE = {
    "her2": (*RESPONSE, *CALLS, *DECISION),
    "class": (
        Citation("Exact comparison of calls", "McNemar 1947", "Psychometrika 12:153",
                 "10.1007/BF02295996"),
        Citation("Comparison of calls by patient", "Yang et al. 2010", "Biometrical Journal 52:638",
                 "10.1002/bimj.201000035"),
        Citation("Resampling of patients", "Davison and Hinkley 1997",
                 "Bootstrap Methods and their Application, Cambridge University Press",
                 "10.1017/CBO9780511802843"),
    ),
    "friedman": (
        Citation("Test of ranks", "Friedman 1937",
                 "Journal of the American Statistical Association 32:675",
                 "10.1080/01621459.1937.10503522"),
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
        rows = choices(inputs.study.settings)
        table = [html.table(CHOICES, CHOICE_COLUMNS, rows)] if rows else []
        return [
            Heading("How the numbers are computed"),
            Text(f"{methods} {_small_numbers(inputs)}"),
            *([Folded(CHOICES_TITLE, table, "part")] if table else []),
            Folded("All settings of the study", [Custom("listing", settings)], "part"),
            Heading("Versions"),
            Custom("versions", versions(inputs)),
            Heading("Citations"),
            Custom("citations", cited_works(inputs)),
        ]


def _small_numbers(inputs: ReportInputs) -> str:
    """Say from how many slides on a group gets an interval, and which setting it is."""
    return (
        f"Where a group holds fewer than {inputs.settings.min_n} slides or patients "
        "(report.min_n), a note stands in place of interval, test and box plot."
    )


def choices(settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """List the settings that results depend on and no paper states: value, default, meaning.

    Parameters
    ----------
    settings : mapping
        Of a study, by section.
    """
    rows: dict[str, dict[str, Any]] = {}
    for section, owner, kind, values in _sections(settings):
        for name, field in kind.model_fields.items():
            if is_choice(field) and name in values:
                row = rows.setdefault(f"{section}.{name}", {"field": field, "owners": {}})
                row["owners"].setdefault(json.dumps(values[name]), []).append(owner)
    return [
        {
            "setting": name,
            "value": "; ".join(
                f"{value} ({', '.join(owners)})" if len(row["owners"]) > 1 else value
                for value, owners in row["owners"].items()
            ),
            "default": json.dumps(row["field"].get_default()),
            "meaning": str(row["field"].description).removesuffix(CHOICE),
        }
        for name, row in rows.items()
    ]


def _sections(
    settings: Mapping[str, Any],
) -> Iterator[tuple[str, str, type[SettingsSection], Mapping[str, Any]]]:
    """Yield each section of a study's settings: its name, whose it is, its class and values.

    In place of `train`, `pretrain` and `fit` stand those of each encoder, pre-training and method.
    """
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if name == "pretrain":
            for owner, values in settings.get("pretrainings", {}).items():
                yield name, owner, PretrainSettings, values
        elif name == "train":
            for owner, values in settings.get("encoders", {}).items():
                if values.get("task") != "none":  # nothing of it is trained
                    yield name, owner, TrainSettings, values
        elif name == "fit":
            for owner, method in settings.get("methods", {}).items():
                if fitted := fit_settings(method.get("aggregate")):
                    yield name, owner, fitted, method.get("fit", {})
        elif isinstance(kind, type) and issubclass(kind, SettingsSection):
            yield name, "", kind, settings.get(name, {})


def cited_works(inputs: ReportInputs) -> list[Citation]:
    """Return the works to cite: the general ones, and those of what the study uses."""
    compared = [Path(folder) / "friedman.tsv" for folder in inputs.manifest.paths("compare")]
    uses = [inputs.endpoint().name]
    uses += ["friedman"] * any(path.exists() for path in compared)
    uses += ["explain"] * bool(inputs.manifest.select("explain"))
    works = [work for use in uses for work in WORKS_BY_USE.get(use, ())]
    for name in dict.fromkeys(e.metrics.aggregation for e in inputs.evaluations):
        works += AGGREGATIONS[name].citations if name else ()
    works += _published_encoders(inputs)
    works += STAIN_METHODS[inputs.study.setting("stain", "stain_method", "vahadane")].citations
    return list(dict.fromkeys([WORKS[0], *works, *WORKS[1:]]))


def _published_encoders(inputs: ReportInputs) -> Iterator[Citation]:
    """Yield the works that describe the published weights of the study's encoders."""
    for folder in inputs.manifest.paths("train"):
        model = ModelDescription.read(folder)
        if not model.citation:
            continue
        title = PRESETS[model.preset].title if model.preset in PRESETS else model.architecture
        kind, _, number = model.citation.partition(":")
        doi = f"10.48550/arXiv.{number}" if kind == "arXiv" else model.citation
        if doi.startswith("10."):
            yield Citation("Weights of an encoder", title, "as published", doi)
        else:
            yield Citation("Weights of an encoder", title, model.citation, "")
