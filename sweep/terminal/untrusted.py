"""Text of unknown origin on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text whose control characters are spelled out: a model or an exception may say what would command a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
