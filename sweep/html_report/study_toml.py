"""A stored study's settings as the TOML file that would run it again."""

from __future__ import annotations

from typing import Any

import tomli_w


def study_toml(config: dict[str, Any]) -> str:
    """The study file: every setting in force, defaults included. A key without a value is left out (TOML: no null)."""
    return tomli_w.dumps(_without_nulls(config))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value
