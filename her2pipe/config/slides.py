"""Settings up to the patch store: cohorts, slides, images, stain, split, drawing, tile."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from her2pipe.config.base import (
    ALGORITHM,
    Fraction,
    Name,
    OneOf,
    Section,
    View,
    mistake,
    setting,
)
from her2pipe.registry import DETECTORS, READERS, STAIN_METHODS, TISSUE_METHODS

Statement = Literal[
    "ethics",
    "consent",
    "data",
    "code",
    "funding",
    "interests",
    "registration",
    "protocol",
    "intended_use",
    "involvement",
]


class StudySettings(Section):
    """What the study is called, what its authors state of it, and where its rules run."""

    title: str = setting("A her2pipe study", "title of the report")
    container: str = setting(
        "", "image that all rules run in, with --software-deployment-method apptainer"
    )
    statements: dict[Statement, str] = setting(
        {},
        "what only authors know and reporting guidelines ask for: approval of an ethics committee,"
        " consent, where data and code are to be had, funding, competing interests, registration,"
        " protocol, intended use, involvement of patients and public; what is not given, the page"
        " calls not stated",
        flag=False,
    )


class Cohort(Section):
    """One cohort: a sheet and a role."""

    sheet: str = setting(..., "TSV sheet; relative to this file, or to the working directory")
    role: Literal["development", "external", "treatment", "apply", "pretraining"] = setting(
        ...,
        "what the cohort is for; apply: slides to be scored, which need no labels; where they have"
        " some, they are external",
    )
    kind: Literal["slides", "images"] = setting(
        "slides", "what the rows of the sheet are: whole slides, or images that are taken whole"
    )
    title: str = setting("", "name shown in the report")
    root: str = setting("", "folder that relative slide paths start from")


class SlidesSettings(Section):
    """How slides are opened."""

    reader: Annotated[str, OneOf(READERS, "auto")] = setting(
        "auto",
        "reader; auto tries the fast one for tiled TIFF or that of pictures, then OpenSlide, then"
        " tiatoolbox",
    )
    mpp_policy: Literal["header", "sheet"] = setting(
        "header", "which resolution wins; header: a sheet that disagrees is an error"
    )
    mpp_tolerance: float = setting(
        0.05, "allowed difference between header and sheet", "fraction", ge=0, le=1
    )
    on_bad_slide: Literal["exclude", "fail"] = setting(
        "exclude", "an unreadable slide is recorded and excluded, or stops the run"
    )
    corrupt_max: float = setting(
        0.05, "share of the tissue patches that corrupt tiles may cost", "fraction", ge=0, le=1
    )
    decode_psnr_db: float = setting(
        43.0, "least fidelity of JPEG reduced by its decoder; 0: always reduce", "dB", ge=0
    )
    picture_max_mpx: float = setting(
        600.0,
        "largest plain JPEG or PNG that is read as a slide; it takes 3 bytes of memory a pixel, and"
        " with transparency 12",
        "Mpx",
        gt=0,
        choice=True,
    )


class ImagesSettings(Section):
    """How images become patches: each is one patch, and keeps its colours."""

    pack_images: int = setting(
        512,
        "images per patch store, about; the number of stores is a power of two",
        "images",
        False,
        ge=1,
    )
    shape: Literal["stretch", "crop", "pad"] = setting(
        "stretch",
        "how an image becomes square: stretch (all of it, as the published networks were fed),"
        " crop (its middle), or pad (with white)",
    )


class StainSettings(Section):
    """Stain normalisation (Vahadane et al. 2016; Macenko et al. 2009)."""

    stain_method: Annotated[str, OneOf(STAIN_METHODS)] = setting(
        "vahadane", "estimator; macenko-dab is the modified Macenko for IHC"
    )
    stain_sparsity: float = setting(
        0.02, "lambda, weight of the L1 term", "OD", ge=0, le=1, choice=True
    )
    stain_pixels: int = setting(
        20_000, "tissue pixels sampled per slide", "px", ge=100, choice=True
    )
    stain_pixels_min: int = setting(
        500, "a slide with fewer tissue pixels gets the reference vectors", "px", ge=10, choice=True
    )
    stain_luminosity_max: float = setting(
        0.8, "a pixel is tissue below this Lab luminosity (L/100)", "", gt=0, le=1, choice=True
    )
    stain_black_max: int = setting(
        30,
        "a pixel with no channel above this is ink or void, not tissue",
        "levels",
        ge=0,
        le=254,
        choice=True,
    )
    stain_percentile: float = setting(
        99.0, "percentile taken as the maximum concentration", "%", gt=0, le=100, choice=True
    )
    stain_tolerance: float = setting(
        1e-8, "stop when the objective improves by less", "relative", gt=0
    )
    stain_iterations: int = setting(1000, "most alternations", "", ge=1)
    stain_seed: int = setting(2025, "seed of the pixel sample", "", ge=0)
    stain_angle_min: float = setting(
        5.0,
        "two vectors closer than this are not distinguished",
        "degrees",
        ge=1,
        lt=90,
        choice=True,
    )
    stain_concentration_min: float = setting(
        0.05, "a stain whose maximum concentration is lower is absent", "OD", gt=0, choice=True
    )
    stain_reference_max: tuple[float, float] = setting(
        (1.5, 1.0),
        "maximum concentrations assumed where a slide has none of its own",
        "OD",
        choice=True,
    )
    macenko_beta: float = setting(0.15, "optical density below which a pixel is glass", "OD", ge=0)
    macenko_alpha: float = setting(1.0, "percentile of the extreme angles", "%", ge=0, lt=50)
    macenko_dab_max: float = setting(
        1.0,
        "macenko-dab: DAB concentration taken as the maximum on every slide; keeps DAB unscaled",
        "OD",
        gt=0,
        choice=True,
    )
    macenko_angle_max: float = setting(
        20.0,
        "macenko-dab: a first vector farther than this from Ruifrok's is not haematoxylin",
        "degrees",
        gt=0,
        le=90,
        choice=True,
    )
    macenko_dab_angle_max: float = setting(
        # HER2 cores: 5 to 6 degrees where DAB is strong, 13 to 23 where it is faint or absent.
        10.0,
        "macenko-dab: a second vector farther than this from Ruifrok's is not DAB, and that one"
        " stands in for it",
        "degrees",
        gt=0,
        le=90,
        choice=True,
    )


class SplitSettings(Section):
    """Splits of a development cohort, by patient: one, or several (resampling)."""

    scheme: Literal["holdout", "folds", "repeats", "site", "column"] = setting(
        "holdout",
        "holdout: one split; folds: each fold tested once; repeats: folds dealt anew several times;"
        " site: each site tested once; column: each value of split_column tested once. All but"
        " holdout train and fit for each split and score every slide out of fold",
    )
    folds: int = setting(
        5,
        "folds and repeats: folds by patient; of repeats also 1, a holdout drawn anew each time",
        ge=1,
        le=100,
        choice=True,
        flag=False,
    )
    repeats: int = setting(
        5, "repeats: how often the folds are dealt", ge=1, le=100, choice=True, flag=False
    )
    split_column: str = setting(
        "",
        "column: the column of the sheet whose values are tested in turn; site: that of the site;"
        " empty: column site, and where that is empty the site in the TCGA barcode of the patient",
    )
    stratify_by: list[str] = setting(
        [], "columns, such as site or scanner, whose values splits hold in proportion, too"
    )
    validation_fraction: float = setting(
        0.2,
        "share of patients kept for validation when the sheet has no split column; of a resampled"
        " split, the share of those not tested; repeats of 1 fold test as large a share",
        "fraction",
        gt=0,
        lt=1,
    )
    split_seed: int = setting(2025, "seed of the split", "", ge=0)

    @model_validator(mode="after")
    def _complete(self) -> SplitSettings:
        if self.scheme == "folds" and self.folds < 2:
            raise mistake("scheme folds with 1 fold", "set folds to 2 or more, or scheme: repeats")
        if self.scheme == "column" and not self.split_column:
            raise mistake("scheme column without split_column", "name the column of the sheet")
        return self

    @property
    def is_resampled(self) -> bool:
        """Whether there are several splits."""
        return self.scheme != "holdout"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the sheet that splits depend on, beside `patient` and `split`."""
        of_site = (self.split_column or "site",) if self.scheme == "site" else ()
        of_values = (self.split_column,) if self.scheme == "column" else ()
        return (*of_site, *of_values, *self.stratify_by)

    @property
    def unwritten(self) -> frozenset[str]:
        """How many splits there are, which no job of one depends on; and defaults of resampling."""
        optional = ("scheme", "split_column", "stratify_by")
        return frozenset({"folds", "repeats", *(n for n in optional if _is_default(self, n))})


def _is_default(section: Section, name: str) -> bool:
    field = type(section).model_fields[name]
    return bool(getattr(section, name) == field.get_default(call_default_factory=True))


class Scanner(Section):
    """How the synthetic slides of one cohort look."""

    stain: Literal["he", "ihc"] = setting(
        "he", "haematoxylin and eosin, or HER2 immunohistochemistry (DAB)"
    )
    objective: Literal[20, 40] = setting(40, "scan magnification", "x")
    hematoxylin: tuple[float, float, float] = setting(
        (0.65, 0.70, 0.29), "optical density of haematoxylin in R, G, B", "OD"
    )
    eosin: tuple[float, float, float] = setting(
        (0.09, 0.95, 0.28), "optical density of eosin in R, G, B", "OD"
    )
    counterstain: tuple[float, float, float] = setting(
        # Measured on HER2 slides: bluer than the haematoxylin of H&E slides.
        (0.71, 0.63, 0.31),
        "ihc: optical density of haematoxylin in R, G, B",
        "OD",
    )
    dab: tuple[float, float, float] = setting(
        (0.28, 0.54, 0.79), "ihc: optical density of DAB in R, G, B", "OD"
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


class DrawSettings(Section):
    """Synthetic images, cut from synthetic sections at 20x."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    image_px: int = setting(256, "side of an image", "px", ge=32, le=1024)
    section_um: float = setting(
        450.0,
        "side of the section that images are cut from; it varies by 20 %",
        "um",
        ge=100,
        le=2000,
    )


class PreflightSettings(Section):
    """What is looked over before anything is cut."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    mpp_ratio_max: float = setting(
        1.2, "scales of a cohort's slides that differ more are reported as mixed", "", ge=1
    )


class TissueSettings(Section):
    """What of a slide is tissue."""

    tissue_method: Annotated[str, OneOf(TISSUE_METHODS)] = setting(
        "variance",
        "how tissue is separated from background: by the grey-level variance of each patch (as"
        " published), or by a mask of the slide: by colour and density (mask), read from a file"
        " (file), or by GrandQC's network (grandqc)",
    )
    tissue_share_min: float = setting(
        0.1,
        "methods with a mask: a patch is cut from this share of tissue on",
        "fraction",
        gt=0,
        le=1,
        choice=True,
    )
    tissue_mpp: float = setting(
        8.0, "mask: scale of the picture it is made from", "um/px", ge=1, le=64, choice=True
    )
    tissue_saturation: tuple[Fraction, Fraction] = setting(
        (0.03, 0.06),
        "mask: Otsu's threshold of the saturation is kept within these: where there is no glass, it"
        " would part dark from pale tissue",
        "fraction",
        choice=True,
    )
    tissue_od: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = setting(
        (0.03, 0.06),
        "mask: Otsu's threshold of the optical density is kept within these",
        "OD",
        choice=True,
    )
    tissue_close_um: float = setting(
        32.0,
        "mask: gaps up to this width are closed, as between the cells of fat",
        "um",
        ge=0,
        le=1000,
        choice=True,
    )
    tissue_hole_um2: float = setting(
        100_000.0, "mask: smaller holes are filled", "um^2", ge=0, choice=True
    )
    tissue_piece_um2: float = setting(
        10_000.0, "mask: smaller pieces are dirt", "um^2", ge=0, choice=True
    )
    tissue_file: str = setting(
        "",
        "file: path of the mask image or outlines (GeoJSON, XML) of a slide, in which {slide}"
        " stands for its name; column tissue_mask of the sheet goes before it",
    )
    tissue_values: list[Annotated[int, Field(ge=0, le=65535)]] = setting(
        [], "file: values of a mask image that are tissue, such as GrandQC's 1; none: all but 0"
    )
    tissue_names: list[str] = setting(
        ["tissue"],
        "file: an outlined region is tissue when its class is one of these, or it has no class",
    )
    tissue_weights: str = setting(
        "", "grandqc: file of the weights of tiatoolbox's grandqc_tissue_detection (.pth)"
    )


STORED_PX_MIN = 16  # side of a stored patch, at least


class RejectSettings(Section):
    """Patches that are left out after they were cut and encoded."""

    reject: list[Annotated[str, OneOf(DETECTORS)]] = setting(
        [],
        "artefacts whose patches are neither trained on, fitted, scored, described nor drawn in"
        " heat maps: pen, blur, fold, bubble; they stay in stores and encodings, marked",
    )


class TileSettings(RejectSettings):
    """Cutting a slide into patches."""

    algorithm: int = setting(4, ALGORITHM, ge=4, le=4)
    patch_px: int = setting(
        512,
        "side of a stored patch, or that of its square on the slide where it is smaller; where"
        " it is not given, a view that only encoders with a published preset read is stored at the"
        " largest size they want",
        "px",
        ge=STORED_PX_MIN,
        le=4096,
    )
    view_px: dict[View, Annotated[int, Field(ge=STORED_PX_MIN, le=4096)]] = setting(
        {}, "side of a stored patch of single views, in place of patch_px", "px", False
    )
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
    edge: Literal["drop", "shift", "pad"] = setting(
        "drop",
        "the right and bottom edge, narrower than a patch: left out (as published), covered by"
        " patches shifted back over their neighbours, or by patches padded with white",
    )
    edge_noted: float = setting(
        0.05,
        "a slide is noted from this share of its tissue on that lies at the edge, where no patch"
        " fits",
        "",
        ge=0,
        le=1,
    )
    outside_noted: float = setting(
        0.1,
        "a slide is noted above this share of its annotated area that lies outside the slide",
        "",
        ge=0,
        le=1,
    )
    within: Literal["slide", "annotation"] = setting(
        "slide", "patches that are cut: of the whole slide, or of its annotated tumour alone"
    )
    within_min: float = setting(
        0.5,
        "within annotation: least share of a patch inside it",
        "fraction",
        gt=0,
        le=1,
        choice=True,
    )
    white_max: float = setting(
        1.0,
        "a patch of which a larger share is white is left out; 1: none is; IHC: 0.6",
        "fraction",
        ge=0,
        le=1,
    )
    white_level: int = setting(
        # Seven HER2 cores: glass is 234 to 250; at 220 pale stroma counts as glass, too.
        230,
        "a pixel is white when none of its channels is below this",
        "levels",
        ge=1,
        le=255,
        choice=True,
    )
    void_level: int = setting(
        2,
        "a pixel is as black as what a scanner pads with when no channel is above this",
        "levels",
        ge=0,
        le=254,
        choice=True,
    )
    void_px: int = setting(
        15,
        "black areas at least so wide are void, which is background; narrower ones are ink, dirt"
        " or tissue",
        "px",
        ge=1,
        le=255,
        choice=True,
    )
    void_share: float = setting(
        0.01,
        "a patch is looked at for void from this share of black on; 1: only where it is all black",
        "fraction",
        ge=0,
        le=1,
        choice=True,
    )
    void_edge_px: int = setting(
        4,
        "how far compression and resampling blur the edge of void, which is left out with it",
        "px",
        ge=0,
        le=64,
        choice=True,
    )
    screen: float = setting(
        # Three real sections, 5 views: no patch skipped at 0.05 had a variance over 46.
        0.05,
        "skip patches that a coarse level shows blank, under this share of variance_min, if the"
        " riskiest of them, read in full, are blank indeed; 0: read every patch",
        "",
        ge=0,
        le=0.5,
    )
    pen_max: float = setting(
        0.05, "a patch is marked pen above this share of ink", "fraction", ge=0, le=1, choice=True
    )
    blur_min: float = setting(
        0.35,
        "a patch is marked blur below this sharpness, as a share of the slide's sharp patches'",
        "",
        ge=0,
        le=1,
        choice=True,
    )
    fold_max: float = setting(
        1.75,
        "a patch is marked fold when a tenth of it is denser than this many times the slide's"
        " tissue",
        "",
        ge=1,
        choice=True,
    )
    bubble_max: float = setting(
        0.05,
        "a patch is marked bubble above this share of grey edges, which no stain explains",
        "fraction",
        ge=0,
        le=1,
        choice=True,
    )
    judged_um: float = setting(
        40.0,
        "patches of a smaller side are too small for blur, fold and bubble to be judged",
        "um",
        ge=0,
        choice=True,
    )
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
    jpeg_as_slide: bool = setting(
        False,
        "store patches that are the slide's own pixels (a view of patch_px) at its own JPEG quality"
        " and chroma, where that keeps them nearer to the slide than jpeg_quality does",
    )
    overview_px: int = setting(1024, "longer side of the stored overview", "px", ge=64, le=4096)
