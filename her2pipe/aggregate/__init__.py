"""Rules of aggregation: from patches to one slide score."""
