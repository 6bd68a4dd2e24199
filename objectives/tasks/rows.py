"""Rows from files and from the hub, and holding some of them out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from objectives.errors import TaskError
from objectives.tasks.columns import make_alike
from objectives.tasks.files import is_file_suffix, read_file
from objectives.tasks.protocol import Row
from objectives.user_code.modules import find_file

HoldOutBy = Literal["prompt", "row"]


def is_local(data: str, folders: Sequence[Path] = ()) -> bool:
    """Whether a study's `data` names a file, or is in one of these folders; anything else is a hub id."""
    if is_file_suffix(data) or data.startswith((".", "/")):
        return True
    with suppress(OSError, ValueError):  # a name that no file can have
        return any((folder / data).exists() for folder in folders)
    return False


def read_rows(data: str, *, config: str | None, split: str, folders: Sequence[Path]) -> list[Row]:
    """All rows of a file or of a data set's split, made alike.

    Raises:
        TaskError: where they cannot be read; of a file, it names the line.
    """
    if not is_local(data, folders):
        return make_alike(_read_hub(data, config=config, split=split), source=data)
    path = find_file(data, folders)
    rows = read_file(path, split=split)
    if not rows:
        raise TaskError(f"{path} holds no rows")
    return make_alike(rows, source=str(path))


def held_out_source(data: str, held_out_split: str, folders: Sequence[Path]) -> tuple[str, str]:
    """The data and the split that `held_out_split` means: a file of its own, or another split of the same data.

    Raises:
        TaskError: where it is no file, and the data is one, which has no splits.
    """
    if is_local(held_out_split, folders):
        return held_out_split, "train"
    if is_local(data, folders) and find_file(data, folders).is_file():
        raise TaskError(f"held_out_split={held_out_split!r} is no file, and {data} has no splits; name a second file")
    return data, held_out_split


def require_columns(rows: Sequence[Row], columns: Iterable[str], *, source: str) -> None:
    """Checks that every row has these columns, and something in them.

    Raises:
        TaskError: naming the first row that has not.
    """
    for number, row in enumerate(rows, start=1):
        for column in columns:
            if column not in row:
                raise TaskError(f"{source}: row {number} has no column {column!r}; it has: {', '.join(map(str, row))}")
            if row[column] in (None, "", []):
                raise TaskError(f"{source}: row {number} has nothing in column {column!r}")


def hold_out(rows: Sequence[Row], *, share: float, seed: int, by: HoldOutBy = "prompt") -> tuple[list[Row], list[Row]]:
    """Splits rows into training and held-out ones. A prompt's text decides, so that equal prompts stay together.

    Args:
        rows: With the column "prompt".
        share: About this share is held out, between 0 and 1, of distinct prompts or of rows.
        seed: Another seed holds out others.
        by: "row" decides for each row by itself, and a prompt may then be on both sides.

    Raises:
        TaskError: where nothing is left on one side.
    """
    sides: tuple[list[Row], list[Row]] = ([], [])
    for number, row in enumerate(rows):
        key = f"{seed}:{prompt_key(row)}" if by == "prompt" else f"{seed}:row {number}"
        # Not hash(), which differs from process to process.
        # JSON may hold halves of characters, which plain UTF-8 refuses.
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        sides[int.from_bytes(digest[:8]) < share * 2**64].append(row)
    for name, side in zip(("training", "held-out"), sides, strict=True):
        if not side and rows:
            raise TaskError(f"the {name} split is empty: {_why_empty(rows, by)}")
    return sides


def _why_empty(rows: Sequence[Row], by: HoldOutBy) -> str:
    prompts = len({prompt_key(row) for row in rows})
    n = f"{len(rows):,}"
    if len(rows) == 1:
        return "there is one row; give it more"
    if by == "row" or prompts == len(rows):
        return f"there are {n} rows; give it more, or another held_out_share"
    if prompts == 1:
        same = f"all {n} rows are equal" if all(row == rows[0] for row in rows) else f"all {n} rows have one prompt"
        return f"{same}, and a prompt is on one side only; held_out_by = 'row' holds out rows by the seed instead"
    return (
        f"{n} rows have {prompts} prompts, and each is on one side only; give it more, or another held_out_share, or "
        "hold out rows by the seed: held_out_by = 'row'"
    )


def without(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """The rows whose prompt is none of the others'."""
    taken = {prompt_key(row) for row in others}
    return [row for row in rows if prompt_key(row) not in taken]


def prompt_key(row: Row) -> str:
    """A prompt as one string, chat or not."""
    prompt = row["prompt"]
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)


def _read_hub(data: str, *, config: str | None, split: str) -> list[Row]:
    from datasets import load_dataset

    try:
        rows: list[Any] = load_dataset(data, config, split=split).to_list()
    # The hub's client raises kinds of its own for every way a network or a name can be wrong.
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise TaskError(f"dataset {data!r}, split {split!r}, cannot be loaded from the hub: {first}") from error
    return rows
