"""Networks that a study names: whether they can be built, and their weights be had."""
