"""Evaluation of what has no classes: numbers, and the time to an event."""
