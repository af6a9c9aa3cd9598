"""Metrics of one method on one cohort, paired comparisons, the method table."""
