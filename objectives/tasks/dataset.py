"""The task `dataset`: rows of the user's own, scored by reward functions of their own."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from objectives.errors import TaskError
from objectives.settings.task_common import RowsSettings
from objectives.tasks.code_rows import is_code, rows_from_code
from objectives.tasks.protocol import Row
from objectives.tasks.rows import held_out_source, hold_out, read_rows, require_columns, without
from objectives.tasks.text_task import TextTask, as_chat

WRITTEN_MESSAGES = re.compile(
    r"""(?=.*['"]role['"]\s*:)(?=.*['"]content['"]\s*:)\s*(array\()?\[?\s*\{\s*['"]""", re.DOTALL
)
"""How a text begins that was a message or a list of them before pandas wrote it to a CSV file."""


Finish = Callable[[Sequence[Row], str], list[Row]]
"""What a task makes of rows that have their prompts, in the order of their source, which is named for messages."""


def _as_they_are(rows: Sequence[Row], source: str) -> list[Row]:
    return list(rows)


def dataset_task(
    settings: RowsSettings,
    *,
    seed: int,
    folders: Sequence[Path],
    tokenizer: Any | None = None,
    finish: Finish = _as_they_are,
) -> TextTask:
    """Reads the user's rows and splits them.

    Args:
        settings: The study's `[task]` section.
        seed: Decides what is held out.
        folders: Where the user's modules and files are looked for.
        tokenizer: The model's, for rows that code makes.
        finish: Called before rows are split, while their numbers are those of the source.

    Raises:
        TaskError: where they cannot be read, or a row has no prompt.
    """
    rows, given = _training_prompts(settings, folders, tokenizer, finish)
    if given is not None:
        train, held_out = without(rows, given), given
    elif settings.held_out_split is None:
        train, held_out = hold_out(rows, share=settings.held_out_share, seed=seed, by=settings.held_out_by)
    else:
        data, split = held_out_source(settings.data, settings.held_out_split, folders)
        held_out = _prompts(settings, data, split, folders, finish)
        train = without(rows, held_out)
    return TextTask(
        name=f"dataset_{Path(settings.data).stem}".replace(":", "_"),
        max_completion_tokens=settings.max_completion_tokens,
        reward_functions=(),
        reward_weights=(),
        train=train,
        held_out=held_out,
        seed=seed,
    )


def _training_prompts(
    settings: RowsSettings, folders: Sequence[Path], tokenizer: Any | None, finish: Finish
) -> tuple[list[Row], list[Row] | None]:
    """Rows to train on, and those to hold out where code says which."""
    if not is_code(settings.data):
        return _prompts(settings, settings.data, settings.split, folders, finish), None
    train, held_out = rows_from_code(settings.data, folders, tokenizer=tokenizer)
    source = settings.data
    return _checked(settings, train, source, finish), held_out and _checked(settings, held_out, source, finish)


def _prompts(settings: RowsSettings, data: str, split: str, folders: Sequence[Path], finish: Finish) -> list[Row]:
    return _checked(settings, read_rows(data, config=settings.config, split=split, folders=folders), data, finish)


def _checked(settings: RowsSettings, rows: Sequence[Row], data: str, finish: Finish) -> list[Row]:
    """The rows, each with its prompt under "prompt"."""
    require_columns(rows, [settings.prompt_column], source=data)
    prompts = [_with_prompt(row, settings, f"{data}: row {number}") for number, row in enumerate(rows, start=1)]
    return finish(prompts, data)


def _with_prompt(row: Row, settings: RowsSettings, where: str) -> Row:
    """The row with its prompt under "prompt", as chat where it is to be."""
    columns = {key: value for key, value in row.items() if key != settings.prompt_column}
    if settings.prompt_column != "prompt":
        # Another column called so would stand in the way of the prompt.
        columns.pop("prompt", None)
    return {"prompt": _prompt(row[settings.prompt_column], settings, where), **columns}


def _prompt(prompt: Any, settings: RowsSettings, where: str) -> Any:
    if isinstance(prompt, str) and WRITTEN_MESSAGES.match(prompt):
        prompt = _read_messages(prompt, where)
    if isinstance(prompt, str):
        return as_chat(prompt, settings.system_prompt) if settings.chat else prompt
    messages = prompt if isinstance(prompt, list) else [prompt]
    if not all(isinstance(message, dict) and {"role", "content"} <= message.keys() for message in messages):
        raise TaskError(f"{where}: prompt is neither text nor a list of messages with role and content")
    if settings.system_prompt is not None and messages[0]["role"] != "system":
        return [{"role": "system", "content": settings.system_prompt}, *messages]
    return messages


def _read_messages(text: str, where: str) -> Any:
    """Messages that were written as text, in JSON or as Python shows them."""
    # pandas writes lists to CSV as Python shows them, with single quotes.
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        # literal_eval raises TypeError for a key that is a list, and the last two for a text that is nested too deep.
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    raise TaskError(
        f"{where}: prompt is a list of messages written as text, and cannot be read back; save the data as JSONL or "
        "Parquet"
    )
