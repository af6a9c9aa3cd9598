"""Sections of the study's page: what a section is, their registry, and the page made of them.

A section is a registered class with a title, a place in the page and a method that returns its
blocks. Packages of others add their own through the entry points `her2pipe.plugins`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from her2pipe import __version__
from her2pipe.registry import Registry
from her2pipe.reporting import html
from her2pipe.reporting.exits import Exits
from her2pipe.reporting.inputs import ReportInputs


class Section(ABC):
    """A section of the page.

    Attributes
    ----------
    title : str
        Its heading.
    place : int
        Sections stand in the order of their places; those of her2pipe are 10 apart.
    links : bool
        Whether it is built after all others, so that it can link to what they hold
        (`ReportInputs.anchors`).
    """

    title: ClassVar[str]
    place: ClassVar[int]
    links: ClassVar[bool] = False

    @abstractmethod
    def blocks(self, inputs: ReportInputs) -> Sequence[html.Block]:
        """Return the blocks of the section; without any it is left out."""


SECTIONS: Registry[type[Section]] = Registry("section of the page", "her2pipe.reporting")


@dataclass(frozen=True)
class Page:
    """The study's page, and the files that its links lead to."""

    text: str
    exits: Exits


def page(inputs: ReportInputs) -> Page:
    """Return the study's page."""
    built = {}
    # Names decide among equals: the order in which modules were imported must not.
    for name in sorted(SECTIONS.names(), key=lambda name: (SECTIONS[name].links, name)):
        if blocks := SECTIONS[name]().blocks(inputs):
            built[name] = blocks
            inputs.anchors.update(_anchors(name, blocks))
    names = sorted(built, key=lambda name: (SECTIONS[name].place, name))
    hide = _hidden(inputs)
    sections = [
        (name, SECTIONS[name].title, [hide(_marked(block, inputs)) for block in built[name]])
        for name in names
    ]
    all_blocks = [block for _, _, blocks in sections for block in blocks]
    exits = Exits(all_blocks)
    script, style = html.source("page.js"), html.source("style.css")
    text = html.render(
        "page.html",
        title=inputs.study.title,
        lead=inputs.endpoint().caption_lead,
        version=__version__,
        sections=sections,
        exits=exits,
        script=script,
        style=style,
        policy=_policy(script, style, all_blocks),
    )
    return Page(text, exits)


def _hidden(inputs: ReportInputs) -> Callable[[html.Block], html.Block]:
    """Return what a block becomes: itself, or without the names of slides and patients."""
    from her2pipe.reporting.disclosure.pseudonyms import Pseudonyms

    return (
        (lambda block: block) if inputs.settings.identifiers else Pseudonyms(inputs.ledger).in_block
    )


def _marked(block: html.Block, inputs: ReportInputs) -> html.Block:
    """Return a block whose figures of synthetic slides say so: in caption, text and drawing."""
    if isinstance(block, (html.Grid, html.Folded, html.RunDependent)):
        return replace(block, blocks=[_marked(inner, inputs) for inner in block.blocks])
    if not isinstance(block, html.Figure) or not inputs.synthetic:
        return block
    mark = inputs.synthetic_mark(re.findall(r"[Cc]ohort ([^\s,;:.]+)", block.caption))
    return html.marked(block, mark) if mark else block


def _anchors(name: str, blocks: Sequence[html.Block]) -> Iterator[str]:
    """Yield the ids that links to a section and to its tables and figures lead to."""
    yield html.section_id(name)
    for block in html.walk(blocks):
        if isinstance(block, (html.Table, html.Figure)) and block.id:
            yield block.id
        elif isinstance(block, html.Custom) and block.macro == "flow_chart":
            yield "fig-flow"


def _policy(script: str, style: str, blocks: Sequence[html.Block]) -> str:
    """Return the Content-Security-Policy: nothing is fetched, no other script than ours runs.

    Bokeh, which draws the slides to zoom into, makes style elements as it draws.
    """
    custom = [block for block in html.walk(blocks) if isinstance(block, html.Custom)]
    libraries = [block.values for block in custom if block.macro == "bokeh"]
    styles = "'unsafe-inline'" if libraries else html.digest(style)
    scripts = " ".join(html.digest(text) for text in (script, *libraries))
    return (
        f"default-src 'none'; img-src data:; style-src {styles}; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )
