"""Settings of methods that are given away, and of slides they are applied to: bundle, and fit."""

from __future__ import annotations

from her2pipe.config.base import ALGORITHM, Name, Section, setting


class BundleSettings(Section):
    """A trained method as a bundle: one folder, or zip, to be given away."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    methods: list[Name] = setting([], "methods that are bundled; none named: none", flag=False)
    license: str = setting(
        "other",
        "terms of the bundle, as Hugging Face names licences (mit, cc-by-nc-4.0); other: not yet"
        " stated",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$",
    )
    contact: str = setting("", "whom users of the bundle write to; shown on its card")


class CompatibilitySettings(Section):
    """Whether patches are such as an encoder or an aggregation was made for."""

    allow_mismatch: bool = setting(
        False,
        "use patches of another view, size, scale or stain method than a model was made for; every"
        " score is flagged then. false: they are refused",
    )
    scale_tolerance: float = setting(
        0.25,
        "how much larger or smaller patches of a fixed view may be on the slide than any that the"
        " model was made with",
        "relative",
        ge=0,
        le=10,
        choice=True,
    )
