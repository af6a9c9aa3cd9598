"""Quality of slides and patches: artefacts, what is out of range, and what to leave out."""
