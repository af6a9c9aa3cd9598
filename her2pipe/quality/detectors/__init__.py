"""Detectors of artefacts, one module each."""
