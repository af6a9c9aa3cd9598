"""Figures, pictures, and exports to viewers."""
