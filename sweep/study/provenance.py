"""Where each setting of a study comes from: its file, `--set`, or a default."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any, Literal

from sweep.study.file import StudyFile, apply_override, find_study

Origin = Literal["file", "--set", "default"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting in force."""

    key: str
    """`section.key`."""
    value: Any
    """As in JSON. A ladder that was left out is the one that its default comes to."""
    origin: Origin


def settings_in_force(config: StudyFile, name_or_path: str, overrides: list[str]) -> tuple[Setting, ...]:
    """Every setting of a study that was loaded from here with these overrides, in the order of the reference."""
    in_file = tomllib.loads(find_study(name_or_path).read_text(encoding="utf-8"))
    in_sets: dict[str, Any] = {}
    for override in overrides:
        apply_override(in_sets, override)
    space = config.search_space()
    ladders = {"r": list(space.r), "alpha": list(space.alpha) if space.alpha_per_r is None else None}
    settings = []
    for section, values in config.model_dump(mode="json").items():
        for key, value in values.items():
            resolved = ladders.get(key, value) if section == "space" else value
            origin = _origin(section, key, in_file, in_sets)
            settings.append(Setting(key=f"{section}.{key}", value=resolved, origin=origin))
    return tuple(settings)


def _origin(section: str, key: str, in_file: dict[str, Any], in_sets: dict[str, Any]) -> Origin:
    if key in in_sets.get(section, {}):
        return "--set"
    return "file" if key in in_file.get(section, {}) else "default"
