"""Images of any kind in folders, one for each class."""

from __future__ import annotations

from pathlib import Path

from her2pipe.cohorts.importers.base import IMPORTERS, SIDES, Cells, ImageImporter


@IMPORTERS.register("folders")
class Folders(ImageImporter):
    """Images at CLASS/.../image.png, or train/CLASS/.../image.png."""

    name = "folders"
    unnamed = "images in no folder of a class, or of no patient"

    def read(self, path: Path) -> Cells | None:
        """Read class, side and patient from the path below the folder."""
        inner = path.relative_to(self.options.folder)
        folders = list(inner.parts[:-1])
        side = SIDES.get(folders[0].lower(), "") if len(folders) > 1 else ""
        folders = folders[1:] if side else folders
        if not folders:
            return None
        slide = "_".join(inner.with_suffix("").parts)
        patient = self.patient_of(inner) if self.options.patient else slide
        if patient is None:
            return None
        return {
            "slide": slide,
            "path": "",
            "patient": patient,
            "class": folders[0],
            "published_split": side,
        }

    def note(self) -> str:
        """Say that patients are unknown, where they are."""
        if self.options.patient:
            return ""
        return (
            "no --patient is given: every image counts as a patient of its own, so images of one"
            " patient may be on both sides"
        )
