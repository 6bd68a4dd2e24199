"""Rows made alike: every row has every column, and every nested object every key, as in TRL's data sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from objectives.errors import TaskError
from objectives.tasks.protocol import Row

TAKEN_COLUMNS = frozenset({"prompts", "completions", "trainer_state", "log_extra", "log_metric", "environments"})
"""Keywords that TRL 1.13 calls reward functions with; a column of such a name would be given twice."""
PICTURE_COLUMNS = frozenset({"image", "images"})
"""Columns that TRL 1.13 takes for pictures, whatever they hold: it refuses text prompts beside them."""
KINDS: dict[type, str] = {
    str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"
}  # fmt: skip
"""What values of a column are called that have to be of one kind."""


def make_alike(rows: Sequence[Row], *, source: str) -> list[Row]:
    """Gives every row what any row has, None where it had nothing, and makes whole numbers decimal beside decimal ones.

    Raises:
        TaskError: where a column holds values of several kinds, or has a name that TRL 1.13 uses for something else.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if taken := TAKEN_COLUMNS.intersection(columns):
        raise TaskError(f"column {min(taken)!r} has a name that TRL uses for something else; rename it")
    if pictures := PICTURE_COLUMNS.intersection(columns):
        raise TaskError(f"column {min(pictures)!r} has a name that TRL reads images from; drop or rename it")
    numbers = range(1, len(rows) + 1)
    alike = {
        column: _alike([row.get(column) for row in rows], numbers, f"{source}: column {column!r}") for column in columns
    }
    return [{column: alike[column][i] for column in columns} for i in range(len(rows))]


def _alike(values: Sequence[Any], numbers: Sequence[int], where: str) -> list[Any]:
    """The values of one column, or of one place within it.

    Args:
        values: None where there is nothing.
        numbers: The row that each is in.
        where: For messages.
    """
    kinds = _kinds(values, numbers)
    if len(kinds) > 1:
        (first, row), (second, other), *_ = kinds.items()
        raise TaskError(f"{where} holds {first} in row {row} and {second} in row {other}; allowed: one kind per column")
    kind = next(iter(kinds), None)
    if kind == "a number" and any(isinstance(value, float) for value in values):
        try:
            return [None if value is None else float(value) for value in values]
        except OverflowError as error:
            raise TaskError(f"{where} holds a whole number too large for the decimals beside it") from error
    if kind == "a list":
        return _alike_lists(values, numbers, where)
    return _alike_objects(values, numbers, where) if kind == "an object" else list(values)


def _kinds(values: Iterable[Any], numbers: Iterable[int]) -> dict[str, int]:
    """The kinds of value that there are, each with the first row that has one."""
    found: dict[str, int] = {}
    for value, number in zip(values, numbers, strict=True):
        if value is not None:
            # The exact type: to isinstance, true and false are whole numbers.
            found.setdefault(KINDS.get(type(value), "a value of another kind"), number)
    return found


def _alike_lists(values: Sequence[Any], numbers: Sequence[int], where: str) -> list[Any]:
    items = [item for value in values for item in value or ()]
    rows = [number for value, number in zip(values, numbers, strict=True) for _ in value or ()]
    alike = iter(_alike(items, rows, where))
    return [None if value is None else [next(alike) for _ in value] for value in values]


def _alike_objects(values: Sequence[Any], numbers: Sequence[int], where: str) -> list[Any]:
    present = [(value, number) for value, number in zip(values, numbers, strict=True) if value is not None]
    rows = [number for _, number in present]
    keys = dict.fromkeys(key for value, _ in present for key in value)
    alike = {key: _alike([value.get(key) for value, _ in present], rows, f"{where}, key {key!r}") for key in keys}
    objects = iter([{key: alike[key][i] for key in keys} for i in range(len(present))])
    return [None if value is None else next(objects) for value in values]
