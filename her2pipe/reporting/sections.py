"""Sections of the study's page: what a section is, their registry, and the page made of them.

A section is a registered class with a title, a place in the page and a method that returns its
blocks. Packages of others add their own through the entry points `her2pipe.plugins`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from her2pipe import __version__
from her2pipe.registry import Registry
from her2pipe.reporting import html
from her2pipe.reporting.inputs import ReportInputs


class Section(ABC):
    """A section of the page.

    Attributes
    ----------
    title : str
        Its heading.
    place : int
        Sections stand in the order of their places; those of her2pipe are 10 apart.
    """

    title: ClassVar[str]
    place: ClassVar[int]

    @abstractmethod
    def blocks(self, inputs: ReportInputs) -> Sequence[html.Block]:
        """Return the blocks of the section; without any it is left out."""


SECTIONS: Registry[type[Section]] = Registry("section of the page", "her2pipe.reporting")


def page(inputs: ReportInputs) -> str:
    """Return the study's page."""
    names = sorted(SECTIONS.names(), key=lambda name: SECTIONS[name].place)
    sections = []
    for name in names:
        section = SECTIONS[name]()
        if blocks := section.blocks(inputs):
            sections.append((name, section.title, blocks))
    return html.render(
        "page.html",
        title=inputs.study.title,
        lead=inputs.endpoint().caption_lead,
        version=__version__,
        sections=sections,
    )
