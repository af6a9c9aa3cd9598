"""Cohort sheets, labels, splits, duplicates, and importers of public data sets."""
