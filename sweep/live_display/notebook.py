"""What moves in a notebook's output: one display, drawn again in its place."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, RenderableType

from sweep.terminal.shown import as_html

SECONDS = 0.5
"""Between two drawings."""


class NotebookLive:
    """Stands for `rich.live.Live`, which in a notebook needs ipywidgets."""

    def __init__(self, renderable: RenderableType, *, console: Console) -> None:
        self.console = console
        self._renderable = renderable
        self._handle: Any = None
        self._drawn = 0.0

    def start(self) -> None:
        """Shows it."""
        from IPython.display import HTML, display

        self._handle = display(HTML(as_html(self._renderable)), display_id=True)

    def refresh(self) -> None:
        """Draws it again, if it is time to."""
        if time.monotonic() - self._drawn > SECONDS:
            self._draw()

    def stop(self) -> None:
        """Draws it for the last time."""
        if self._handle is not None:
            self._draw()

    def _draw(self) -> None:
        from IPython.display import HTML

        self._drawn = time.monotonic()
        self._handle.update(HTML(as_html(self._renderable)))
