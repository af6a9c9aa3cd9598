"""her2pipe: HER2 scores from whole-slide images of breast cancer."""

try:  # written by the build, from the tag
    from her2pipe._version import __version__  # type: ignore[import-untyped,import-not-found,unused-ignore]
except ImportError:  # files that were copied, not installed
    __version__ = "0.1.0.dev0"

__all__ = ["__version__"]
