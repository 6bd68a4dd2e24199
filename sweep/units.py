"""Figures as people read them."""

from __future__ import annotations


def size(n_bytes: float) -> str:
    """Bytes in the largest binary unit that leaves 1 or more: `117.8 MiB`."""
    value, unit = float(n_bytes), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def signed_size(n_bytes: float) -> str:
    """A difference in bytes: `+117.8 MiB`."""
    return f"{'+' if n_bytes > 0 else ''}{size(n_bytes)}"


def count(n: float) -> str:
    """A number of things: `1.24 billion`, `22.5 million`, `98,304`."""
    for scale, unit in ((1e9, "billion"), (1e6, "million")):
        if n >= scale:
            return f"{n / scale:.3g} {unit}"
    return f"{n:,.0f}"


def duration(seconds: float) -> str:
    """Seconds as people say them: `45 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
