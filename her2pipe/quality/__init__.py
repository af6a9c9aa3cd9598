"""Quality of slides and patches: artefacts of preparation and scanning, and what to leave out."""
