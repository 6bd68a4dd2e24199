"""Rewards and data that a study was given as functions and rows: what the study calls them, and how they travel."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from objectives.user_code.by_value import MODULE, ByValue, send_by_value
from objectives.user_code.sources import find_module
from sweep.errors import UsageError


def name_functions(task: Mapping[str, Any], folders: Sequence[Path]) -> tuple[dict[str, Any], ByValue | None]:
    """A study's `[task]` section with a reference in place of each function, and the functions that no file holds.

    Args:
        task: The section. `reward` may be, or hold, functions; `data` may be one, or rows.
        folders: Where the study's own modules lie. A function of such a module is named as in a study file.

    Raises:
        UsageError: where a function cannot be sent to a worker.
    """
    named, kept = dict(task), _Kept(folders)
    reward = task.get("reward")
    if callable(reward):
        named["reward"] = [kept.reference(reward)]
    elif isinstance(reward, Mapping):
        named["reward"] = {name: kept.reference(each, name=str(name)) for name, each in reward.items()}
    elif isinstance(reward, list | tuple):
        named["reward"] = [kept.reference(each) for each in reward]
    data = task.get("data")
    if callable(data):
        named["data"] = kept.reference(data)
    elif data is not None and not isinstance(data, str | Path):
        named["data"] = kept.reference(_giving(data), name="rows")
    try:
        return named, send_by_value(kept.functions) if kept.functions else None
    except TypeError as error:
        raise UsageError(str(error)) from error


class _Kept:
    """Functions that are sent by value, each under a name of its own."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.functions: dict[str, Callable[..., Any]] = {}
        self._folders = folders

    def reference(self, function: Any, *, name: str | None = None) -> Any:
        """What a study calls a function; anything else as it is."""
        if not callable(function):
            return function
        own = getattr(function, "__qualname__", type(function).__name__)
        module = getattr(function, "__module__", None) or ""
        # A function within another, whose __qualname__ has dots, cannot be imported by a name.
        if own.isidentifier() and inspect.isfunction(function) and find_module(module, self._folders):
            return f"{module}:{own}"
        wanted = re.sub(r"\W", "_", (name or own.rpartition(".")[2]).strip("<>")) or "function"
        free = (wanted, *(f"{wanted}_{k}" for k in range(2, len(self.functions) + 3)))
        name = next(each for each in free if each not in self.functions)
        self.functions[name] = function
        return f"{MODULE}:{name}"


def _giving(rows: Any) -> Callable[[], Any]:
    def given() -> Any:
        return rows

    return given
