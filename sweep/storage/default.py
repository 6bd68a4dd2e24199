"""Where studies are stored unless someone says otherwise."""

from __future__ import annotations

DEFAULT_STORAGE = "sqlite:///rank-sweep.db"
"""A file in the working folder."""
