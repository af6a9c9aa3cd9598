"""Stain estimation and normalisation."""
