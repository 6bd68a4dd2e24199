"""Figures as people read them, and text that is safe to print."""

from __future__ import annotations

import math
from collections.abc import Iterable

from objectives.figures import decimals


def size(n_bytes: float) -> str:
    """Bytes in the largest binary unit that leaves 1 or more: `117.8 MiB`."""
    value, unit = float(n_bytes), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def rung(value: float | bool | str) -> str:
    """One value of a ladder, as a study file has it."""
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


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


def figure(value: float, digits: int = 2) -> str:
    """A number to so many significant digits, written out: `0.0043`, `0.52`, `3500`; beyond all use `1e+300`."""
    if value == 0 or not math.isfinite(value) or not 1e-9 < abs(value) < 1e15:
        return f"{value:.{digits}g}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    return f"{rounded:.{max(places, 0)}f}".rstrip("0").rstrip(".") if places > 0 else f"{rounded:.0f}"


def money(amount: float) -> str:
    """An amount in whatever currency the user's price is in, small ones to two digits."""
    return f"{amount:,.2f}" if amount >= 1 else figure(amount)


def percent(share: float) -> str:
    """A share of 1 as people write it: `85 %`."""
    return f"{100 * share:g} %"


def decimals_for(values: Iterable[float | None]) -> int:
    """Decimals for numbers that are shown beside one another, by how far apart they lie; equal ones by their size."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    apart = max(known) - min(known) if known else 0.0
    return decimals(apart or max((abs(value) for value in known), default=0.0))


def storable(text: str) -> str:
    """Text without halves of characters, which no file can hold: a reward may quote them where it fails."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def printable(text: str) -> str:
    """Text whose control characters are spelled out: a model or an exception may say what would command a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
