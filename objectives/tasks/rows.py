"""Reading rows from files and from the hub, and holding some of them out."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from objectives.errors import TaskError
from objectives.tasks.protocol import Row
from objectives.user_code import find_file

FILE_SUFFIXES = (".jsonl", ".csv", ".parquet")


TAKEN_COLUMNS = frozenset({"prompts", "completions", "trainer_state", "log_extra", "log_metric", "environments"})
"""Keywords that TRL 1.13 calls reward functions with; a column of such a name would be given twice."""


def is_file_name(data: str) -> bool:
    """Whether a study's `data` names a file; anything else is a hub id."""
    return Path(data).suffix in (*FILE_SUFFIXES, ".json", ".txt", ".tsv") or data.startswith((".", "/"))


def read_rows(data: str, *, config: str | None, split: str, folders: Sequence[Path]) -> list[Row]:
    """All rows of a file or of a hub dataset's split.

    Raises:
        TaskError: where they cannot be read; of a file, it names the line.
    """
    if not is_file_name(data):
        return _read_hub(data, config=config, split=split)
    path = find_file(data, folders)
    match path.suffix:
        case ".jsonl":
            rows = _read_jsonl(path)
        case ".csv":
            rows = _read_csv(path)
        case ".parquet":
            rows = _read_parquet(path)
        case suffix:
            raise TaskError(f"{path}: cannot read {suffix or 'this'} files; allowed: {', '.join(FILE_SUFFIXES)}")
    if not rows:
        raise TaskError(f"{path} holds no rows")
    return _same_columns(rows)


def _same_columns(rows: Sequence[Row]) -> list[Row]:
    """Gives every row every column that any row has, None where it had none, as TRL's datasets do.

    Raises:
        TaskError: where a column has a name that TRL 1.13 uses for something else.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if taken := TAKEN_COLUMNS.intersection(columns):
        raise TaskError(f"column {min(taken)!r} has a name that TRL passes something else by; rename it")
    return [{column: row.get(column) for column in columns} for row in rows]


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


def hold_out(rows: Sequence[Row], *, share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Splits rows into training and held-out ones. A prompt's text decides, so that equal prompts stay together.

    Args:
        rows: With the column "prompt".
        share: About this share of distinct prompts is held out, between 0 and 1.
        seed: Another seed holds out others.
    """
    train: list[Row] = []
    held_out: list[Row] = []
    for row in rows:
        digest = hashlib.sha256(f"{seed}:{prompt_key(row)}".encode("utf-8", "surrogatepass")).digest()
        (held_out if int.from_bytes(digest[:8]) < share * 2**64 else train).append(row)
    return train, held_out


def without(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """The rows whose prompt is none of the others'."""
    taken = {prompt_key(row) for row in others}
    return [row for row in rows if prompt_key(row) not in taken]


def prompt_key(row: Row) -> str:
    """A prompt as one string, chat or not."""
    prompt = row["prompt"]
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)


def _read_jsonl(path: Path) -> list[Row]:
    rows = []
    try:
        # Only a newline ends a line of JSON: str.splitlines would also cut at separators inside strings.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path}: cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise TaskError(f"{path}, line {number}: {type(row).__name__}; allowed: one JSON object a line")
        rows.append(row)
    return rows


def _read_csv(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows: list[Row] = []
            for row in reader:
                if None in row or None in row.values():
                    raise TaskError(f"{path}, line {reader.line_num}: more or fewer fields than the header has")
                rows.append(dict(row))
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TaskError(f"{path}: cannot be read: {error}") from error


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise TaskError(f"{path}: cannot be read as Parquet: {error}") from error
    return rows


def _read_hub(data: str, *, config: str | None, split: str) -> list[Row]:
    from datasets import load_dataset

    try:
        rows: list[Any] = load_dataset(data, config, split=split).to_list()
    # The hub's client raises kinds of its own for every way a network or a name can be wrong.
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise TaskError(f"dataset {data!r}, split {split!r}, cannot be loaded from the hub: {first}") from error
    return rows
