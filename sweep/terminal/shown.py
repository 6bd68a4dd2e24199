"""What is made for a terminal, elsewhere: as plain text, and as HTML for a notebook."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

WIDTH = 80
HTML = '<pre style="white-space:pre;overflow-x:auto;line-height:1.25">{code}</pre>'


def as_text(*parts: RenderableType) -> str:
    """In 80 columns, without colours."""
    return _printed(parts).export_text().rstrip()


def as_html(*parts: RenderableType) -> str:
    """The same with its colours."""
    return _printed(parts).export_html(code_format=HTML, inline_styles=True)


def _printed(parts: tuple[RenderableType, ...]) -> Console:
    # In a notebook, Rich would show what it is only to record.
    console = Console(file=io.StringIO(), width=WIDTH, record=True, force_jupyter=False, highlight=False)
    for part in parts:
        console.print(part)
    return console
