"""Aggregations: from a slide's patches to its score, one module each."""
