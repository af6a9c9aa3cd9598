"""A slide in the browser, with the maps of its patches, served to this machine alone."""
