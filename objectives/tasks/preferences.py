"""The task `preferences`: prompts with a completion that was chosen and one that was rejected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from objectives.errors import TaskError
from objectives.settings.tasks import PreferencesSettings
from objectives.tasks.dataset import dataset_task
from objectives.tasks.protocol import Row
from objectives.tasks.rows import require_columns
from objectives.tasks.text_task import TextTask, as_chat


def preferences_task(
    settings: PreferencesSettings, *, seed: int, folders: Sequence[Path], tokenizer: Any | None = None
) -> TextTask:
    """Reads the user's pairs and splits them; rows have the columns "prompt", "chosen" and "rejected", as TRL's.

    Args:
        settings: The study's `[task]` section.
        seed: Decides what is held out.
        folders: Where the user's modules and files are looked for.
        tokenizer: The model's, for rows that code makes.

    Raises:
        TaskError: where they cannot be read, or a row is no pair.
    """
    task = dataset_task(settings, seed=seed, folders=folders, tokenizer=tokenizer)
    return replace(
        task,
        name=task.name.replace("dataset", "preferences", 1),
        train=_pairs(task.train, settings),
        held_out=_pairs(task.held_out, settings),
    )


def _pairs(rows: Sequence[Row], settings: PreferencesSettings) -> list[Row]:
    require_columns(rows, [settings.chosen_column, settings.rejected_column], source=settings.data)
    return [_pair(row, settings) for row in rows]


def _pair(row: Row, settings: PreferencesSettings) -> Row:
    """The row with its pair under "chosen" and "rejected", both of the prompt's kind: text, or messages."""
    prompt, pair = row["prompt"], {}
    if any(isinstance(row[column], list) for column in (settings.chosen_column, settings.rejected_column)):
        prompt = as_chat(prompt, settings.system_prompt) if isinstance(prompt, str) else prompt
    for name, column in (("chosen", settings.chosen_column), ("rejected", settings.rejected_column)):
        pair[name] = row[column] if isinstance(prompt, str) else _messages(row[column], prompt, column)
    if pair["chosen"] == pair["rejected"]:
        told = str(pair["chosen"])[:60]
        raise TaskError(f"{settings.data}: the chosen and the rejected completion are the same: {told!r}")
    rest = {key: value for key, value in row.items() if key not in (settings.chosen_column, settings.rejected_column)}
    return rest | {"prompt": prompt} | pair


def _messages(completion: Any, prompt: Sequence[Any], column: str) -> list[Any]:
    """A completion as messages; one that repeats the prompt, as many data sets have it, without that."""
    if isinstance(completion, str):
        return [{"role": "assistant", "content": completion}]
    asked = [message for message in prompt if message["role"] != "system"]
    said = [message for message in completion if message.get("role") != "system"]
    if said[: len(asked)] == asked:
        said = said[len(asked) :]
    if not said or any(message.get("role") == "user" for message in said):
        raise TaskError(f"column {column!r}: a list of messages that does not go on from its prompt")
    return said
