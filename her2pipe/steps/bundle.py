"""Step bundle: make a trained method a folder, or a zip, that can be given away."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

from her2pipe.config import BundleSettings
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder

SETTINGS = (BundleSettings,)
log = logging.getLogger(__name__)
ZIP = ".zip"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("method", help="method of the study")
    parser.add_argument("bundle", help="folder to write, or a zip (.zip)")
    parser.add_argument(
        "--results", default="results", help="folder of the results of a study [default: results]"
    )
    parser.add_argument(
        "--notes",
        help="text (.md) that the card ends with: what only you know, as how cohorts were chosen",
    )


def run(args: argparse.Namespace, bundle: BundleSettings) -> None:
    """Write a bundle of what the study found, with its model card."""
    from her2pipe.bundles.card import model_card
    from her2pipe.bundles.study import gather
    from her2pipe.bundles.write import write_bundle, write_zip

    target = Path(args.bundle)
    contents = gather(args.results, args.method, bundle)
    if target.exists() and target.is_dir() == (target.suffix == ZIP):
        raise Her2Error("the bundle cannot be written there", str(target), "name another place")
    card = model_card(contents.description, contents.data, bundle.contact)
    if args.notes:
        card = f"{card}\n## Notes of the authors\n\n{_text(args.notes)}\n"
    if target.suffix == ZIP:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".bundle", dir=target.parent) as name:
            folder = Path(name)
            description = write_bundle(folder, contents.description, card, contents.files)
            write_zip(folder, target)
    else:
        with replacing_folder(target) as folder:
            description = write_bundle(folder, contents.description, card, contents.files)
    for licence in description.licences:
        log.warning(
            "%s, %s: %s; the terms of the bundle, %s, must agree with these",
            licence.part,
            licence.source,
            licence.licence,
            description.license,
        )
    size = sum(file.bytes for file in description.files.values())
    log.info("%s: %.1f MB, digest %s", description.method, size / 1e6, description.digest[:16])
    if description.license == "other":
        log.warning(
            "nobody may use a bundle whose terms are not stated: give them by --license"
            " (bundle.license)"
        )


def _text(path: str) -> str:
    """Read the authors' notes."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Her2Error(
            f"the notes cannot be read: {error}", path, "give a text file (UTF-8)"
        ) from None
