"""What a study discloses of itself: how numbers were computed, with what, and by whom."""

from her2pipe.reporting.disclosure import chapter, citations, throughput

__all__ = ["chapter", "citations", "throughput"]
