"""HER2-IHC-40x: patches of HER2 IHC with a class each.

Folders `class_0`, `class_1+`, `class_2+` and `class_3+` below `train_data_wsi` and `test_data_wsi`,
or `train` and `test`, once the archives and those inside them are unpacked. Files such as
`her2-3+-score_train_1.png` carry the score of their slide, the folder that of the patch.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from her2pipe.cohorts.importers.base import IMPORTERS, Cells, ImageImporter, part_of
from her2pipe.errors import Her2Error
from her2pipe.registry import Citation

CLASS = re.compile(r"class_(0|1\+|2\+|3\+)")
NAMED = re.compile(r"her2-(0|1\+|2\+|3\+)-score_.*")
WSI, PATCH = "wsi-based", "patch-based"


@IMPORTERS.register("her2-ihc-40x")
class Her2Ihc40x(ImageImporter):
    """Patches of the set that is divided by slides; of the other one where it is alone."""

    name = "her2-ihc-40x"
    citation = Citation("HER2-IHC-40x", "its authors", "Zenodo", "10.5281/zenodo.15179608")
    licence = "not found in the sources read"
    published = (("train", 8093), ("test", 1847))

    def rows(self) -> list[Cells]:
        """Return one row per patch.

        Raises
        ------
        Her2Error
            When archives are still packed.
        """
        packed = sorted(self.options.folder.rglob("*.zip"))
        if packed and not any(self.options.folder.rglob("class_*")):
            raise Her2Error(
                f"the folder holds {len(packed)} archives, and no folders of classes",
                str(packed[0]),
                "unpack them, and the train and test archives inside them, too",
            )
        return super().rows()

    @cached_property
    def _kinds(self) -> set[str]:
        """Return how the images there are divided."""
        return {_kind(path.parts) for path in self.options.folder.rglob("class_*")}

    def read(self, path: Path) -> Cells | None:
        """Read class, part, and the score of the slide."""
        folder = CLASS.fullmatch(path.parent.name)
        if not folder:
            return None
        inner = path.relative_to(self.options.folder.parent)
        named, part, kind = NAMED.fullmatch(path.stem), part_of(inner.parts[:-1]), _kind(path.parts)
        patient = self.patient_of(inner) if self.options.patient else ""
        name = f"{kind.split('-')[0]}-{part}-{folder[1]}-{path.stem}".strip("-")
        return {
            "slide": name,
            "path": "",
            "patient": f"HER2-IHC-40x-{patient or name}",
            "ihc": folder[1],
            "slide_ihc": named[1] if named else "",
            "division": kind,
            "published_split": part,
        }

    def _not_wanted(self, row: Cells) -> str:
        if row["division"] == PATCH and WSI in self._kinds:
            return "images of the patch-based set, whose parts share slides"
        if not row["published_split"]:
            return "images in no folder of a part"
        return super()._not_wanted(row)

    def note(self) -> str:
        """Say that slides are unknown, and which division leaks."""
        note = (
            "sources disagree on whether names give the slide: without --patient every patch counts"
            " as a patient"
        )
        if PATCH in self._kinds and WSI not in self._kinds:
            note += (
                "; the patch-based set has patches of one slide on both sides: results on it are"
                " optimistic, prefer the WSI-based one"
            )
        return note


def _kind(folders: tuple[str, ...]) -> str:
    """Return how images are divided, as their folders say; empty where they do not."""
    for folder in reversed(folders):
        words = re.split(r"[^a-z]+", folder.lower())
        for kind in (WSI, PATCH):
            if kind.split("-")[0] in words:
                return kind
    return ""
