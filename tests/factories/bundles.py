"""A bundle of a few hundred bytes, without a network: for tests of the format."""

from her2pipe.bundles.description import BundledEncoder, BundleDescription
from her2pipe.bundles.write import write_bundle

FILES = {
    "encoder/model.json": '{"task": "classify"}\n',
    "encoder/model.safetensors": "weights of the encoder",
    "aggregation/model.json": '{"aggregation": "clam"}\n',
}


def make_tiny_bundle(folder, files=None, **fields):
    """Write a bundle into a folder, and return the folder."""
    folder.mkdir(parents=True)
    encoder = BundledEncoder(name="net", architecture="resnet10t", classes=["a", "b"])
    description = BundleDescription(method="M", encoder=encoder, aggregate="clam", **fields)
    write_bundle(folder, description, "# M\n", FILES if files is None else files)
    return folder
