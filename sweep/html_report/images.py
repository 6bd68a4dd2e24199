"""A report's figures as PNG files, drawn by kaleido in a Chrome or Chromium of this machine."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from sweep.errors import MissingExtraError, UsageError

WIDTH, SMALLEST_HEIGHT, SCALE = 900, 420, 2
INK = "#1f2328"


def write_images(figures: dict[str, go.Figure], folder: Path) -> None:
    """Writes each figure as `NAME.png` into a folder, which is made.

    Raises:
        UsageError: where kaleido or a browser is missing, or the folder cannot be written.
    """
    try:
        import kaleido
        from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError
    except ImportError as error:
        raise MissingExtraError("--png needs kaleido, which is not installed: pip install 'rank-sweep[png]'") from error
    wanted = [
        {
            "fig": on_white(figure),
            "path": str(folder / f"{name}.png"),
            "opts": {
                "width": WIDTH,
                "height": max(figure.layout.height or 0, SMALLEST_HEIGHT),
                "scale": SCALE,
                "format": "png",
            },
        }
        for name, figure in figures.items()
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Without mathjax=False the page that kaleido draws on asks a network for it.
        kaleido.write_fig_from_object_sync(wanted, cancel_on_error=True, kopts={"mathjax": False})
    except OSError as error:
        raise UsageError(f"--png {folder}: cannot be written: {error.strerror}") from error
    except ChromeNotFoundError as error:
        raise UsageError(
            "--png needs Chrome or Chromium, and none is found: install one (Debian: apt install chromium), let "
            "plotly_get_chrome fetch one, or name its program in BROWSER_PATH"
        ) from error
    except (BrowserClosedError, BrowserFailedError) as error:
        raise UsageError(f"--png: the browser did not start: {str(error).splitlines()[0]}") from error


def on_white(figure: go.Figure) -> go.Figure:
    """A copy to be looked at by itself: on white, in dark and larger type."""
    copy = go.Figure(figure)
    copy.update_layout(
        paper_bgcolor="white", plot_bgcolor="white", font={"color": INK, "size": 17}, margin={"l": 90, "t": 40, "b": 80}
    )
    return copy
