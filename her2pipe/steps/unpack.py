"""Step unpack: take encoder and aggregation out of a bundle, having checked every file of it."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

from her2pipe.bundles.read import open_bundle
from her2pipe.config import UnpackSettings
from her2pipe.files import replacing_folder, write_text

SETTINGS = (UnpackSettings,)
log = logging.getLogger(__name__)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("bundle", help="folder or .zip that her2pipe bundle wrote")
    parser.add_argument(
        "--encoder", required=True, help="folder to write: the encoder, as train leaves one"
    )
    parser.add_argument(
        "--aggregation",
        required=True,
        help="folder to write: the aggregation, as fit leaves one; empty where nothing was fitted",
    )
    parser.add_argument(
        "--description", required=True, help="file to write: what the bundle says of itself (.json)"
    )


def run(args: argparse.Namespace, unpack: UnpackSettings) -> None:
    """Write the parts of a bundle where a study looks for them."""
    # A zip is unpacked beside what is written: a job may run where nothing is kept.
    parent = Path(args.description).parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=parent) as folder:
        bundle = open_bundle(args.bundle, unpack_to=Path(folder) / "bundle")
        bundle.unpack_encoder(args.encoder)
        if bundle.fitted_folder:
            bundle.unpack_fitted(args.aggregation)
        else:
            with replacing_folder(args.aggregation):
                pass
        write_text(args.description, bundle.description.to_text())
    description = bundle.description
    log.info(
        "%s: method %s, %s, digest %s",
        args.bundle,
        description.method,
        description.encoder.architecture,
        description.digest[:16],
    )
