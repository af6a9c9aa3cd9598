"""Endpoints: what a study predicts of a slide, and everything that follows from it."""
