"""The only package that knows HDF5: patch stores, packs of images, and encodings."""

from her2pipe.store.encodings import (
    Encoding,
    EncodingMetadata,
    Encodings,
    encoding_shape,
    encodings,
    read_encoding,
    read_metadata,
    write_encoding,
)
from her2pipe.store.images import ImageMetadata, Images
from her2pipe.store.namesakes import distinct_stores
from her2pipe.store.packs import PackedImage, SlidePatches, slides_of
from her2pipe.store.patches import (
    PatchMetadata,
    PatchStore,
    PatchWriter,
    compress,
    read_images,
    read_summary,
    write_patches,
)
from her2pipe.store.quality import PatchQuality, Tissue

__all__ = [
    "Encoding",
    "EncodingMetadata",
    "Encodings",
    "ImageMetadata",
    "Images",
    "PackedImage",
    "PatchMetadata",
    "PatchQuality",
    "PatchStore",
    "PatchWriter",
    "SlidePatches",
    "Tissue",
    "compress",
    "distinct_stores",
    "encoding_shape",
    "encodings",
    "read_encoding",
    "read_images",
    "read_metadata",
    "read_summary",
    "slides_of",
    "write_encoding",
    "write_patches",
]
