"""Features of patches, nuclei, and grades of p(HER2+)."""
