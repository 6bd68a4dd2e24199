"""The reference of every study key, generated from the models that check study files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from pydantic_core import PydanticUndefined

from objectives.settings.learner import PackedSettings, TrlSettings
from objectives.settings.section import Section
from objectives.settings.tasks import (
    CustomTaskSettings,
    DatasetSettings,
    Gsm8kSettings,
    ReasoningGymSettings,
    StringOpsSettings,
)
from sweep.study.file import GuardSection, StudyFile

TASKS: tuple[tuple[str, type[Section]], ...] = (
    ("string_ops", StringOpsSettings),
    ("dataset", DatasetSettings),
    ("gsm8k", Gsm8kSettings),
    ("reasoning_gym", ReasoningGymSettings),
    ("module:Class", CustomTaskSettings),
)
LEARNERS: tuple[tuple[str, type[Section]], ...] = (("trl", TrlSettings), ("packed", PackedSettings))
UNIONS = {"task": TASKS, "learner": LEARNERS}
"""Sections whose `name` decides which keys they have."""
HEADER = """# Every key of a study file

Written by `python -m sweep.study.reference`. A key that is not listed here is refused. Any key can be set on the
command line: `--set budget.steps=40`.
"""


def reference_markdown() -> str:
    """The reference, one table for each section."""
    parts = [HEADER]
    for name, field in StudyFile.model_fields.items():
        if name in UNIONS:
            parts += [_section(f'[{name}] with name = "{chosen}"', kind) for chosen, kind in UNIONS[name]]
        else:
            parts.append(_section(f"[{name}]", cast(type[Section], field.annotation)))
        if name == "verdict":
            parts.append(_section("[[verdict.guards]]", GuardSection))
    return "\n".join(parts)


def _section(title: str, kind: type[Section]) -> str:
    lines = [
        f"## `{title}`",
        "",
        (kind.__doc__ or "").strip(),
        "",
        "| key | default | what it is |",
        "| --- | --- | --- |",
    ]
    for name, field in kind.model_fields.items():
        description = " ".join((field.description or "").split())
        lines.append(f"| `{name}` | {_default(field)} | {description}{_limits(field)} |")
    return "\n".join([*lines, ""])


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "required"
    return "" if field.default is None else f"`{json.dumps(field.default)}`"


def _limits(field: Any) -> str:
    """The bounds of a number, as ` (at least 1, below 1)`."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = [
        f"{word} {getattr(limit, bound):g}"
        for limit in field.metadata
        for bound, word in words.items()
        if getattr(limit, bound, None) is not None
    ]
    return f" ({', '.join(found)})" if found else ""


if __name__ == "__main__":
    import studies

    (Path(str(studies.__path__[0])) / "keys.md").write_text(reference_markdown(), encoding="utf-8")
