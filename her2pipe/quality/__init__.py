"""Quality of slides: what a patch store says of its slide, what of it is out of range."""
