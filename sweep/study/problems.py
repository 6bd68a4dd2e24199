"""What is wrong with a study's content, in one line each."""

from __future__ import annotations

import difflib
from typing import Any

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
    where = [str(part) for part in problem["loc"] if not str(part).startswith("function-")]
    name = ".".join(where)
    if problem["type"] == "extra_forbidden":
        allowed = allowed_keys(where[:-1])
        ours = ELSEWHERE.get(where[-1])
        near = [ours] if ours in allowed else difflib.get_close_matches(where[-1], allowed, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{name}: unknown key; {hint}allowed: {', '.join(allowed)}"
    if problem["type"] == "task_name":
        given = content["task"].get("name") if isinstance(content.get("task"), dict) else content.get("task")
        return f"task.{problem['msg']} (given: {given!r})"
    if problem["type"] == "missing":
        return f"{name}: missing; it must be given"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    shown = "" if isinstance(value, dict) else f" (given: {value!r})"
    return f"{name}: {message}{shown}" if name else message


def allowed_keys(section: list[str]) -> list[str]:
    """The keys that a section may hold."""
    model: Any = StudyFile
    for part in section:
        field = model.model_fields.get(part)
        model = None if field is None else field.annotation
        if not (isinstance(model, type) and issubclass(model, Section)):
            return []
    return list(model.model_fields)
