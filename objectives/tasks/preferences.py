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
    task = dataset_task(
        settings,
        seed=seed,
        folders=folders,
        tokenizer=tokenizer,
        finish=lambda rows, source: _pairs(rows, settings, source),
    )
    return replace(task, name=task.name.replace("dataset", "preferences", 1))


def _pairs(rows: Sequence[Row], settings: PreferencesSettings, source: str) -> list[Row]:
    require_columns(rows, [settings.chosen_column, settings.rejected_column], source=source)
    return [_pair(row, settings, f"{source}: row {number}") for number, row in enumerate(rows, start=1)]


def _pair(row: Row, settings: PreferencesSettings, where: str) -> Row:
    """The row with its pair under "chosen" and "rejected", both of the prompt's kind: text, or messages."""
    prompt, columns = row["prompt"], (settings.chosen_column, settings.rejected_column)
    pair = _without_prompt([_completion(row[column], f"{where}, column {column!r}") for column in columns], prompt)
    if isinstance(prompt, str) and not all(isinstance(completion, str) for completion in pair):
        prompt = as_chat(prompt, settings.system_prompt)
    if not isinstance(prompt, str):
        pair = [_messages(said, prompt, f"{where}, column {name!r}") for said, name in zip(pair, columns, strict=True)]
    chosen, rejected = pair
    if chosen == rejected:
        told = str(chosen)[:60]
        raise TaskError(f"{where}: the chosen and the rejected completion are the same: {told!r}")
    rest = {key: value for key, value in row.items() if key not in columns}
    return rest | {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _completion(value: Any, where: str) -> Any:
    """A completion as it was given, text or a list of messages; one message is a list of one."""
    if isinstance(value, str):
        return value
    messages = value if isinstance(value, list) else [value]
    if not all(map(_is_message, messages)):
        told = str(value)[:60]
        raise TaskError(f"{where} holds {told}; allowed: text, or a list of messages with role and content")
    return messages


def _is_message(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        return False
    # A call of a tool may come without content.
    return isinstance(value.get("content"), str) or bool(value.get("tool_calls"))


def _without_prompt(pair: list[Any], prompt: Any) -> list[Any]:
    """Two texts that both repeat their prompt and go on, without it. One that does so may mean to."""
    asked = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    if not isinstance(asked, str) or not all(isinstance(text, str) and text.startswith(asked) for text in pair):
        return pair
    rest = [text[len(asked) :] for text in pair]
    if not all(text.strip() for text in rest):
        return pair
    # TRL tokenises prompt and completion as one text: white space stays where it was. A chat template sets its own.
    return rest if isinstance(prompt, str) else [text.lstrip() for text in rest]


def _messages(completion: Any, prompt: Sequence[Any], where: str) -> list[Any]:
    """A completion as messages; one that repeats the prompt, as many data sets have it, without that."""
    if isinstance(completion, str):
        return [{"role": "assistant", "content": completion}]
    asked = [message for message in prompt if message["role"] != "system"]
    said = [message for message in completion if message["role"] != "system"]
    if said[: len(asked)] == asked:
        said = said[len(asked) :]
    if not said or any(message["role"] == "user" for message in said):
        raise TaskError(f"{where}: a list of messages that does not go on from its prompt")
    return said
