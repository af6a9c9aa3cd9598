"""Settings of describe: grades, sample, textures, nuclei, figures."""

from __future__ import annotations

from pydantic import model_validator

from her2pipe.config.base import ALGORITHM, Name, Section, setting

GRADES = ("I", "II", "III", "IV", "V")


class DescribeSettings(Section):
    """Features of patches by grade of p(HER2+)."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    encoders: list[Name] = setting(
        [], "encoders whose patches are described; none named: the first method's", flag=False
    )
    cohorts: list[Name] = setting(
        [], "cohorts whose patches are described; none named: all", flag=False
    )
    grades: tuple[float, float, float, float, float] = setting(
        (0.33, 0.4, 0.5, 0.6, 0.7), "lowest p(HER2+) of grades I to V; below I: no grade", "0 to 1"
    )
    patches: int = setting(
        200, "patches described per grade, drawn evenly from the slides", "patches", ge=1
    )
    patches_min: int = setting(
        5, "a grade with fewer described patches is drawn, not tested", "patches", ge=2
    )
    describe_seed: int = setting(2025, "seed of the sample", "", ge=0)
    normalise: bool = setting(
        True, "describe patches in the encoder's stain target, as it saw them; false: as scanned"
    )
    entropy_levels: int = setting(256, "levels a channel is cut into for entropy", "", ge=2)
    glcm_levels: int = setting(
        32, "levels a channel is cut into for co-occurrence", "", ge=2, le=256
    )
    nuclei_mpp: float = setting(
        0.5, "nuclei are looked for at this resolution, or the patch's own if coarser", "um/px",
        gt=0, le=2,
    )  # fmt: skip
    nuclei_floor: float = setting(
        0.25, "least haematoxylin of a nucleus, as a share of the slide's maximum; the threshold is"
        " Otsu's, but never lower", "fraction", gt=0, lt=1,
    )  # fmt: skip
    nuclei_blur_um: float = setting(0.5, "spread of the blur before each step", "um", gt=0, le=5)
    nuclei_open_um: float = setting(
        1.2, "what is narrower is no nucleus (width of the opening)", "um", ge=0, le=10
    )
    nuclei_spacing_um: float = setting(1.5, "two nuclei are farther apart", "um", gt=0, le=20)
    nuclei_dark_um: float = setting(
        6.0, "touching nuclei part where depth inside them and darkness are least; depth that the"
        " slide's darkest haematoxylin is worth", "um", ge=0, le=50,
    )  # fmt: skip
    nuclei_area_um2: tuple[float, float] = setting(
        (8.0, 400.0), "smallest and largest area of a nucleus", "um^2"
    )
    alpha: float = setting(
        0.05, "a feature differs between grades when its Kruskal-Wallis P, Holm-adjusted over the"
        " 39 features, is below this", "", gt=0, lt=1,
    )  # fmt: skip
    boxes: int = setting(20, "most features drawn as box plots", "features", ge=1, le=24)
    examples: int = setting(6, "example patches shown per grade", "patches", ge=1, le=12)

    @model_validator(mode="after")
    def _agree(self):
        low, *_, high = self.grades
        if list(self.grades) != sorted(set(self.grades)) or low < 0 or high >= 1:
            raise ValueError("grades must ascend within 0 to 1")
        if self.patches < self.patches_min:
            raise ValueError("patches must be at least patches_min, or no grade is ever tested")
        if not 0 < self.nuclei_area_um2[0] < self.nuclei_area_um2[1]:
            raise ValueError("nuclei_area_um2 must be a smaller and a larger area")
        return self
