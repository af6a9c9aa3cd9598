"""Whole-slide images: readers, pyramids, tissue, annotations."""
