"""her2pipe: HER2 scores from whole-slide images of breast cancer."""

__version__ = "0.1.0"
