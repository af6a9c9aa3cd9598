"""The primary method's result, and all methods side by side."""

from her2pipe.reporting.methods import matrix, summary

__all__ = ["matrix", "summary"]
