"""Rows that a function of the user's own gives: `task.data = "module:function"`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from objectives.errors import TaskError
from objectives.settings.section import REFERENCE
from objectives.tasks.columns import make_alike
from objectives.tasks.protocol import Row
from objectives.user_code.modules import load_reference

TOKENIZER = "tokenizer"
"""A parameter of this name is given the model's tokenizer."""


def is_code(data: str) -> bool:
    """Whether a study's `data` names a function, as `module:function`. No file or hub id has a colon there."""
    return re.match(REFERENCE, data) is not None


def rows_from_code(reference: str, folders: Sequence[Path], *, tokenizer: Any) -> tuple[list[Row], list[Row] | None]:
    """Calls the function: its training rows, and its held-out rows where it returns a pair.

    Args:
        reference: `module:function`. It returns a list of dictionaries, a `datasets.Dataset`, a pandas frame or any
            other iterable of rows, or a pair of them.
        folders: Where modules are looked for.
        tokenizer: The model's.

    Raises:
        TaskError: where it cannot be called, raises, or returns no rows.
    """
    function = load_reference(reference, folders)
    if not callable(function):
        raise TaskError(f"data {reference} is a {type(function).__name__}; allowed: a function that returns rows")
    try:
        given = {TOKENIZER: tokenizer} if TOKENIZER in inspect.signature(function).parameters else {}
        made = function(**given)
        pair = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        train, held_out = (None if rows is None else _as_rows(rows) for rows in pair)
    # sys.exit among them: it would end the worker without a word.
    except BaseException as error:
        if isinstance(error, TaskError):
            raise
        raise TaskError(f"data {reference} raised {type(error).__name__}: {error}") from error
    for rows in (train, held_out):
        if rows is not None and (not rows or not all(isinstance(row, dict) for row in rows)):
            found = "nothing" if not rows else f"a {type(rows[0]).__name__} for a row"
            raise TaskError(
                f"data {reference} returned {found}; allowed: a list of dictionaries, or a pair of such lists"
            )
    if train is None:
        raise TaskError(f"data {reference} returned no training rows")
    return make_alike(train, source=reference), held_out and make_alike(held_out, source=reference)


def _as_rows(rows: Any) -> list[Any]:
    if hasattr(rows, "to_list") and hasattr(rows, "column_names"):  # datasets.Dataset
        return list(rows.to_list())
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # a pandas frame
        return list(rows.to_dict("records"))
    return list(rows)
