"""Networks: one factory for all, weights, inference, Grad-CAM, ONNX export, and their costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from her2pipe.models.base import Network


def create(name: str, classes: int = 3, **options: Any) -> Network:
    """Build any network by its name; see `her2pipe.models.factory.create`."""
    from her2pipe.models import factory  # late: torch takes seconds to import

    return factory.create(name, classes, **options)
