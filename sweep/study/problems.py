"""What is wrong with a study's content, in one line each."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import Tag

from objectives.settings.section import Section
from sweep.study.file import StudyFile

ELSEWHERE = {
    "lr": "learning_rate",
    "rank": "r",
    "lora_rank": "r",
    "lora_alpha": "alpha",
    "max_steps": "steps",
    "num_generations": "group_size",
    "max_completion_length": "max_completion_tokens",
    "model_name": "name",
    "stop_strings": "stop",
    "lr_scheduler_kwargs": "min_lr_rate",
    "epsilon_low": "epsilon",
}
"""What keys are called in TRL, PEFT and Unsloth, for whoever writes them here."""


def explain(problem: Any, content: dict[str, Any]) -> str:
    """One line for one problem: where, what is wrong, the value, what is allowed."""
    # Pydantic puts the names of its validators, as function-before, among those of keys.
    where, section = locate([str(part) for part in problem["loc"] if not str(part).startswith("function-")])
    name = ".".join(where)
    if problem["type"] == "extra_forbidden":
        allowed = list(section.model_fields)
        ours = ELSEWHERE.get(where[-1])
        near = [ours] if ours in allowed else difflib.get_close_matches(where[-1], allowed, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{name}: unknown key; {hint}allowed: {', '.join(allowed)}"
    if problem["type"] in ("task_name", "learner_name"):
        table = content.get(name)
        given = table.get("name") if isinstance(table, dict) else table
        return f"{name}.{problem['msg']} (given: {given!r})"
    if problem["type"] == "missing":
        return f"{name}: missing; it must be given"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    shown = "" if isinstance(value, dict) else f" (given: {value!r})"
    return f"{name}: {message}{shown}" if name else message


def locate(parts: Sequence[str]) -> tuple[list[str], type[Section]]:
    """Where a problem is, as its user would write it, and the section that it is in.

    Pydantic's way there also names which kind of section it took, as in `task.string_ops.symbols`.
    """
    where: list[str] = []
    section: type[Section] = StudyFile
    here: Any = StudyFile
    for part in parts:
        kinds = tagged(here)
        if part in kinds:
            here = kinds[part]
        elif listed := [kind for kind in get_args(here) if is_section(kind)]:  # a list of tables: `part` is a number
            where.append(part)
            here = listed[0]
        else:
            where.append(part)
            field = here.model_fields.get(part) if is_section(here) else None
            here = None if field is None else field.annotation
        if is_section(here):
            section = here
    return where, section


def tagged(annotation: Any) -> dict[str, Any]:
    """The members of a union that are told apart by a tag, by their tags; empty for any other annotation."""
    members = (get_args(member) for member in get_args(annotation))
    return {part.tag: member[0] for member in members for part in member[1:] if isinstance(part, Tag)}


def is_section(annotation: Any) -> bool:
    """Whether it is a section of a study file, and not a value in one."""
    return isinstance(annotation, type) and issubclass(annotation, Section)
