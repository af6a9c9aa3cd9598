"""Bundles: a trained method as a folder, or a zip, that can be given away and applied elsewhere."""
