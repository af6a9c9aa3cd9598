"""Synthetic tissue, slides and images."""
