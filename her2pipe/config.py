"""Every setting, once: type, unit, range, default.

From these classes come the checks of a study file, the flags of each command and their help,
the `settings` attribute of every output (all in `settings.py`), and `studies/schema.json`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

STEPS = (
    "synthesise",
    "tile",
    "train",
    "encode",
    "score",
    "evaluate",
    "compare",
    "heatmap",
    "ledger",
    "report",
)
LEVELS = ("0", "1+", "2+/FISH-", "2+/FISH+", "3+")
CLASSES = ("HER2-", "HER2+", "Non-tumour")
PLAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
VIEW = r"^(adaptive|[1-9][0-9]*|[1-9][0-9]*(\.[0-9]+)?um)$"

ALGORITHM = "version of this step's output; set by the program"

Name = Annotated[str, Field(pattern=PLAIN_NAME)]
View = Annotated[str, Field(pattern=VIEW)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def setting(default: Any, about: str, unit: str = "", flag: bool = True, **limits: Any) -> Any:
    """Declare one setting: default, meaning, unit and range; `flag=False` keeps it off commands."""
    return Field(
        default, description=about, json_schema_extra={"unit": unit, "flag": flag}, **limits
    )


class Section(BaseModel):
    """A section of a study file: unknown keys are refused and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StudySettings(Section):
    """What the study is called."""

    title: str = setting("A her2pipe study", "title of the report")


class Cohort(Section):
    """One cohort: a sheet and a role."""

    sheet: str = setting(..., "TSV sheet; relative to this file, or to the working directory")
    role: Literal["development", "external", "treatment"] = setting(..., "what the cohort is for")
    title: str = setting("", "name shown in the report")
    root: str = setting("", "folder that relative slide paths start from")


class SlidesSettings(Section):
    """How slides are opened."""

    reader: Literal["auto", "openslide", "tiff", "tiatoolbox"] = setting(
        "auto", "reader; auto tries the fast one for tiled TIFF, then OpenSlide, then tiatoolbox"
    )
    mpp_policy: Literal["header", "sheet"] = setting(
        "header", "which resolution wins; header: a sheet that disagrees is an error"
    )
    mpp_tolerance: float = setting(
        0.05, "allowed difference between header and sheet", "fraction", ge=0, le=1
    )
    on_bad_slide: Literal["exclude", "fail"] = setting(
        "exclude", "an unreadable slide is recorded and left out, or stops the run"
    )
    corrupt_max: float = setting(
        0.05, "share of the tissue patches that corrupt tiles may cost", "fraction", ge=0, le=1
    )
    decode_psnr_db: float = setting(
        43.0, "least fidelity of JPEG reduced by its decoder; 0: always reduce", "dB", ge=0
    )


class StainSettings(Section):
    """Stain normalisation (Vahadane et al. 2016; Macenko et al. 2009)."""

    stain_method: Literal["vahadane", "macenko", "macenko-dab", "none"] = setting(
        "vahadane", "estimator; macenko-dab is the modified Macenko for IHC"
    )
    stain_sparsity: float = setting(0.02, "lambda, weight of the L1 term", "OD", ge=0, le=1)
    stain_pixels: int = setting(20_000, "tissue pixels sampled per slide", "px", ge=100)
    stain_pixels_min: int = setting(
        500, "a slide with fewer tissue pixels gets the reference vectors", "px", ge=10
    )
    stain_luminosity_max: float = setting(
        0.8, "a pixel is tissue below this Lab luminosity (L/100)", "", gt=0, le=1
    )
    stain_black_max: int = setting(
        30, "a pixel with no channel above this is ink or void, not tissue", "levels", ge=0, le=254
    )
    stain_percentile: float = setting(
        99.0, "percentile taken as the maximum concentration", "%", gt=0, le=100
    )
    stain_tolerance: float = setting(
        1e-8, "stop when the objective improves by less", "relative", gt=0
    )
    stain_iterations: int = setting(1000, "most alternations", "", ge=1)
    stain_seed: int = setting(2025, "seed of the pixel sample", "", ge=0)
    stain_angle_min: float = setting(
        5.0, "two vectors closer than this cannot be told apart", "degrees", ge=1, lt=90
    )
    stain_concentration_min: float = setting(
        0.05, "a stain whose maximum concentration is lower is absent", "OD", gt=0
    )
    stain_reference_max: tuple[float, float] = setting(
        (1.5, 1.0), "maximum concentrations assumed where a slide has none of its own", "OD"
    )
    macenko_beta: float = setting(0.15, "optical density below which a pixel is glass", "OD", ge=0)
    macenko_alpha: float = setting(1.0, "percentile of the extreme angles", "%", ge=0, lt=50)
    macenko_dab_max: float = setting(
        1.0,
        "macenko-dab: DAB concentration taken as the maximum on every slide; keeps DAB unscaled",
        "OD",
        gt=0,
    )
    macenko_dab_angle_max: float = setting(
        20.0,
        "macenko-dab: a vector farther than this from its Ruifrok reference is not that stain",
        "degrees",
        gt=0,
        le=90,
    )


class SplitSettings(Section):
    """Internal split of a development cohort, by patient."""

    validation_fraction: float = setting(
        0.2,
        "share of patients kept for validation when the sheet has no split column",
        "fraction",
        gt=0,
        lt=1,
    )
    split_seed: int = setting(2025, "seed of the split", "", ge=0)


class Scanner(Section):
    """How the synthetic slides of one cohort look."""

    objective: Literal[20, 40] = setting(40, "scan magnification", "x")
    hematoxylin: tuple[float, float, float] = setting(
        (0.65, 0.70, 0.29), "optical density of haematoxylin in R, G, B", "OD"
    )
    eosin: tuple[float, float, float] = setting(
        (0.09, 0.95, 0.28), "optical density of eosin in R, G, B", "OD"
    )
    strength: float = setting(1.0, "staining strength", "", gt=0, le=3)
    shape: Literal["section", "core", "strips"] = setting("section", "outline of the tissue")

    @field_validator("objective", mode="before")
    @classmethod
    def _from_flag(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value


class SynthesiseSettings(Section):
    """Synthetic slides, for the demo and for tests."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    width_um: float = setting(
        800.0, "width of the field; a slide varies by 20 %", "um", ge=100, le=5000
    )
    height_um: float = setting(
        640.0, "height of the field; a slide varies by 20 %", "um", ge=100, le=5000
    )
    jpeg_quality: int = setting(85, "JPEG quality of the slide", "", ge=30, le=100)
    scanners: dict[Name, Scanner] = setting(
        {}, "cohort name to scanner; a cohort not named here gets the default one", flag=False
    )


class TileSettings(Section):
    """Cutting a slide into patches."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    patch_px: int = setting(512, "side of a stored patch", "px", ge=16, le=4096)
    adaptive_side_px0: float = setting(
        512.0, "Eq. 1: crop side of a slide of adaptive_area_px0", "level-0 px", gt=0
    )
    adaptive_area_px0: float = setting(
        1e9, "Eq. 1: slide area whose crop side is adaptive_side_px0", "level-0 px^2", gt=0
    )
    variance_min: float = setting(
        500.0,
        "a patch whose grey-level variance is below this is background",
        "grey levels^2",
        ge=0,
    )
    screen: float = setting(
        # Three real sections, 3 views: none of 2,098 cells skipped at 0.02 had a variance over 27.
        0.0, "skip cells that a coarse level shows blank, under this share of variance_min; 0: none"
        " (exact); more is an approximation that may lose fine texture", "", ge=0, le=0.5,
    )  # fmt: skip
    annotation_names: list[str] = setting(
        [
            *("tumor", "tumour", "invasive carcinoma", "invasive tumor", "invasive tumour"),
            *("carcinoma", "malignant"),
        ],
        "an annotated region counts when its class is one of these (whole names, any case; a part"
        " after a colon is ignored), or it has no class",
    )
    patch_format: Literal["jpeg", "png"] = setting("jpeg", "how patches are stored; png: lossless")
    jpeg_quality: int = setting(95, "JPEG quality of stored patches", "", ge=50, le=100)
    jpeg_subsampling: Literal["444", "422", "420"] = setting("444", "chroma subsampling")
    overview_px: int = setting(1024, "longer side of the stored overview", "px", ge=64, le=4096)


class TrainSettings(Section):
    """Training an encoder."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    architecture: str = setting("swin_tiny_patch4_window7_224", "timm model name")
    weights: str = setting("none", "starting weights: none, imagenet (timm hub), or a file")
    input_px: int = setting(224, "side of the network's input", "px", ge=16, le=2048)
    train_views: list[View] = setting(["1024", "2048"], "views the training patches come from")
    fractions: dict[View, dict[Literal[CLASSES], Fraction]] = setting(
        {
            "1024": {"HER2-": 0.70, "HER2+": 0.70, "Non-tumour": 0.49},
            "2048": {"HER2-": 1.0, "HER2+": 1.0, "Non-tumour": 0.70},
        },
        "Table 1: fraction of the patches used, by view and class; what is not named is used whole",
    )
    tumour_min: float = setting(
        0.5,
        "a patch is tumour from this share of its area inside the annotation",
        "fraction",
        gt=0,
        le=1,
    )
    stain_target: str = setting(
        "median",
        "colours patches are brought to: median (of the training slides), or a patch store",
    )
    frozen: list[str] = setting(
        ["patch_embed", "layers.0", "layers.1"], "modules whose weights stay fixed"
    )
    batch_size: int = setting(128, "patches per step", "patches", ge=2)
    learning_rate: float = setting(1e-4, "Adam's step size", "", gt=0, lt=1)
    max_epochs: int = setting(100, "most passes over the training set", "epochs", ge=1)
    plateau_tolerance: float = setting(
        1e-3, "an epoch counts as better when the loss falls by this share", "relative", ge=0, lt=1
    )
    plateau_epochs: int = setting(5, "stop after this many epochs without a better one", "", ge=1)
    flips: bool = setting(True, "random flips and quarter turns of training patches")
    train_seed: int = setting(2025, "seed of sampling, order and weights", "", ge=0)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to compute")


class Encoder(TrainSettings):
    """One encoder: training settings of its own over those of `train`."""

    view: View = setting("adaptive", "view whose patches are scored", flag=False)


class EncodeSettings(Section):
    """Running an encoder over patch stores."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    batch_slides: int = setting(
        32, "slides per job, about; the number of jobs is a power of two", "slides", False, ge=1
    )
    batch_patches: int = setting(64, "patches per forward pass", "patches", ge=1)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to compute")
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "arithmetic; auto is bfloat16 autocast on CUDA and float32 on a CPU"
    )


class Method(Section):
    """One row of the method table: an encoder and a rule of aggregation."""

    encoder: Name = setting(..., "name under `encoders`")
    aggregate: Literal["probabilistic", "mean"] = setting("probabilistic", "rule of aggregation")


class ScoreSettings(Section):
    """Slide scores (Eq. 2 to 6)."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    chance: float = setting(
        0.33,
        "probability of HER2+ above which a patch counts as stained",
        "probability",
        ge=0,
        lt=1,
    )
    area_max: float = setting(
        0.3, "a slide scores 0 if its stained area is at most this and ...", "fraction", ge=0
    )
    mean_max: float = setting(
        0.17, "... its mean excess is at most this", "probability", ge=0, lt=1
    )
    top_fraction: float = setting(
        0.3, "share of the tumour patches whose excess is averaged", "fraction", gt=0, le=1
    )
    cutoffs: tuple[float, float, float, float] = setting(
        (0.10, 0.15, 0.20, 0.25), "highest score of levels 0, 1+, 2+/FISH- and 2+/FISH+", "score"
    )

    @model_validator(mode="after")
    def _ascending(self):
        if list(self.cutoffs) != sorted(self.cutoffs):
            raise ValueError("cutoffs must ascend")
        return self


class EvaluateSettings(Section):
    """Statistics of one method on one cohort."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    confidence: float = setting(0.95, "level of the confidence intervals", "", gt=0.5, lt=1)


class CompareSettings(Section):
    """The method table."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)


class HeatmapSettings(Section):
    """Slide overlays."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    methods: list[Name] = setting(
        [], "methods whose maps are drawn; none named: the first one", flag=False
    )
    opacity: float = setting(0.55, "opacity of the map over the slide", "", gt=0, le=1)


class LedgerSettings(Section):
    """The account of every slide."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)


class ReportSettings(Section):
    """The study's page."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    gallery: int = setting(4, "heat maps shown per cohort", "slides", ge=0)


class Config(Section):
    """A study file."""

    study: StudySettings = StudySettings()
    cohorts: dict[Name, Cohort] = Field(..., min_length=1)
    slides: SlidesSettings = SlidesSettings()
    split: SplitSettings = SplitSettings()
    stain: StainSettings = StainSettings()
    synthesise: SynthesiseSettings = SynthesiseSettings()
    tile: TileSettings = TileSettings()
    train: TrainSettings = TrainSettings()
    encoders: dict[Name, Encoder] = Field(..., min_length=1)
    encode: EncodeSettings = EncodeSettings()
    methods: dict[Name, Method] = Field(..., min_length=1)
    score: ScoreSettings = ScoreSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    compare: CompareSettings = CompareSettings()
    heatmap: HeatmapSettings = HeatmapSettings()
    ledger: LedgerSettings = LedgerSettings()
    report: ReportSettings = ReportSettings()

    @model_validator(mode="before")
    @classmethod
    def _encoders_over_train(cls, data: Any) -> Any:
        """Lay each encoder's own settings over those of `train`."""
        if not isinstance(data, dict):
            return data
        train, encoders = data.get("train") or {}, data.get("encoders")
        if isinstance(train, dict) and isinstance(encoders, dict):
            merged = {
                k: {**train, **(v or {})} if isinstance(v or {}, dict) else v
                for k, v in encoders.items()
            }
            data = {**data, "encoders": merged}
        return {
            k: {} if v is None and k not in ("cohorts", "encoders", "methods") else v
            for k, v in data.items()
        }
