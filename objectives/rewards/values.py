"""What goes into a reward function and what comes out: copies of its own, and one number for each completion."""

from __future__ import annotations

import copy
import difflib
import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from objectives.errors import RewardError, TaskError

FROM_TRAINER = ("trainer_state", "log_extra", "log_metric")
"""What TRL 1.13 passes to reward functions besides prompts, completions and columns."""
ALWAYS_PASSED = ("prompts", "completions", "completion_ids", *FROM_TRAINER)
SHOWN_LENGTH = 60
"""Characters of a value that a message quotes."""


def own_copy(value: Any) -> Any:
    """A copy that shares nothing which could be changed. Unlike `deepcopy`, it also separates what occurs twice."""
    match value:
        case str() | bytes() | int() | float() | None:
            return value
        case list():
            return [own_copy(item) for item in value]
        case dict():
            return {key: own_copy(item) for key, item in value.items()}
    try:
        return copy.deepcopy(value)
    except Exception:  # a task of the user's own may hold what cannot be copied
        return value


def check_signature(function: Callable[..., Any], name: str, columns: Iterable[str]) -> None:
    """Checks that a function can be called with these columns.

    Raises:
        TaskError: where it asks for another, or does not take one of them.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # compiled code may not say
        return
    check_parameters(
        name,
        columns,
        by_position=[p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_ONLY],
        required=[
            p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        ],
        accepted=[p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)],
        takes_any=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def check_parameters(
    name: str,
    columns: Iterable[str],
    *,
    required: Sequence[str],
    accepted: Sequence[str],
    takes_any: bool,
    by_position: Sequence[str] = (),
) -> None:
    """The same, of a function whose parameters are known: those without a default, all of them, and whether any go.

    Those `by_position` take no keyword, and have no default.

    Raises:
        TaskError: where it asks for another column, or does not take one of them.
    """
    passed = list(columns)
    if by_position:
        raise TaskError(
            f"reward {name} takes {_listed(by_position)} by position alone, and TRL passes everything by keyword; "
            "take the / out of its parameters"
        )
    if missing := [parameter for parameter in required if parameter not in (*passed, *ALWAYS_PASSED)]:
        near = difflib.get_close_matches(missing[0], ALWAYS_PASSED, n=1, cutoff=0.8)
        hint = f" ({near[0]!r} are passed, all of a call in one list)" if near else ""
        raise TaskError(
            f"reward {name} asks for {_listed(missing)}, and there is no such column{hint}; "
            f"the columns are: {', '.join(passed) or 'none besides the prompt'}"
        )
    if not takes_any and (refused := [key for key in (*ALWAYS_PASSED, *passed) if key not in accepted]):
        raise TaskError(
            f"reward {name} does not take {_listed(refused)}, which TRL passes by keyword; "
            "end its parameters with **kwargs"
        )


def read_values(name: str, result: Any, completions: int) -> list[float | None]:
    """A reward function's answer as plain numbers, None where it does not apply.

    Raises:
        RewardError: where it is anything but a sequence of one finite number, or None, for each completion.
    """
    dimensions = getattr(result, "ndim", None)  # of a NumPy array, a tensor or a pandas column
    if dimensions is not None and dimensions != 1:
        shape = tuple(getattr(result, "shape", ()))
        raise RewardError(f"reward {name} returned an array of shape {shape}; allowed: {_allowed(completions)}")
    if dimensions is None and (isinstance(result, str | bytes) or not isinstance(result, Sequence)):
        kind = "None" if result is None else f"a {type(result).__name__}"
        raise RewardError(f"reward {name} returned {kind}; allowed: {_allowed(completions)}")
    values = list(result)
    if len(values) != completions:
        raise RewardError(f"reward {name} returned {len(values)} values for {completions} completions")
    return [_number(name, value, i) for i, value in enumerate(values)]


def _number(name: str, value: Any, i: int) -> float | None:
    if value is None:
        return None
    # NumPy's and torch's own kinds of number, but no array that happens to hold a single one.
    plain = value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
    try:
        if isinstance(plain, numbers.Real) and math.isfinite(plain):
            return float(plain)
    except OverflowError:  # a whole number beyond every float
        plain = "a number beyond every float"
    raise RewardError(f"reward {name} returned {shown(plain)} for completion {i}; allowed: finite numbers, None")


def shown(value: Any) -> str:
    """A value on one line, and not all of a long one."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN_LENGTH else f"{text[: SHOWN_LENGTH - 1]}…"


def shown_prompt(prompt: Any) -> str:
    """A prompt as messages quote it: text, or what the last message of a chat says."""
    return shown(prompt if isinstance(prompt, str) or not prompt else prompt[-1].get("content"))


def _allowed(completions: int) -> str:
    return f"a list with one number, or None, for each of the {completions} completions"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
