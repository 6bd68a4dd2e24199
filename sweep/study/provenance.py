"""Where each setting of a study comes from: its file, `--set`, or a default."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sweep.study.file import StudyFile

Origin = Literal["file", "--set", "default"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting in force, and what gave it its value."""

    key: str
    """`section.key`."""
    value: Any
    """As in JSON. A ladder that was left out is the one that its default comes to."""
    origin: Origin


def settings_in_force(
    config: StudyFile, content: Mapping[str, Any], overridden: Container[str] = ()
) -> tuple[Setting, ...]:
    """Every setting of a study, in the order of the reference.

    Args:
        config: The study.
        content: What its file holds, without overrides.
        overridden: The keys that were set besides, each `section.key`.
    """
    space = config.search_space()
    ladders = {"r": list(space.r), "alpha": list(space.alpha) if space.alpha_per_r is None else None}
    settings = []
    for section, values in config.model_dump(mode="json").items():
        for key, value in values.items():
            resolved = ladders.get(key, value) if section == "space" else value
            name = f"{section}.{key}"
            origin: Origin = "file" if key in content.get(section, {}) else "default"
            settings.append(Setting(key=name, value=resolved, origin="--set" if name in overridden else origin))
    return tuple(settings)
