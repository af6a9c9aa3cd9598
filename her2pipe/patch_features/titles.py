"""Names of the 39 features for readers; files keep the names of `features.NAMES`."""

from __future__ import annotations

CHANNEL_TITLES = {"L": "L*", "A": "a*", "B": "b*"}  # lightness, green to red, blue to yellow
OF_CHANNEL = {
    "mean": "mean",
    "var": "variance",
    "entropy": "entropy",
    "dft_0_mean": "coarse detail, mean",
    "dft_0_var": "coarse detail, variance",
    "dft_1_mean": "medium detail, mean",
    "dft_1_var": "medium detail, variance",
    "dft_2_mean": "fine detail, mean",
    "dft_2_var": "fine detail, variance",
    "glcm_contrast": "co-occurrence contrast",
    "glcm_homogeneity": "homogeneity",
    "glcm_energy": "energy",
}
TITLES = {
    f"Lab-{channel}_{name}": f"{title}: {words}"
    for channel, title in CHANNEL_TITLES.items()
    for name, words in OF_CHANNEL.items()
} | {
    "cells_num": "nuclei: number",
    "cells_area_mean": "nuclei: mean area",
    "cells_area_var": "nuclei: variance of area",
}
KEY = (
    "L* is lightness, a* from green to red, b* from blue to yellow (CIE Lab); coarse, medium and "
    "fine detail are thirds of the spatial frequencies"
)
