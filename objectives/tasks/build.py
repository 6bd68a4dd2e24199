"""Which class or function makes the task that a study names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from objectives.errors import TaskError
from objectives.settings.task_common import RowsSettings
from objectives.settings.tasks import (
    CustomTaskSettings,
    DatasetSettings,
    Gsm8kSettings,
    PreferencesSettings,
    ReasoningGymSettings,
    TaskSettings,
)
from objectives.tasks.protocol import Task
from objectives.user_code.modules import load_reference

LOOKED_AT = 64
"""Rows that tell what a task's prompts are."""
ATTRIBUTES = ("name", "max_completion_tokens", "reward_functions", "reward_weights", "train_rows", "held_out_rows")


def build_task(
    settings: TaskSettings, *, seed: int, folders: Sequence[Path], chat: bool, tokenizer: Any | None = None
) -> Task:
    """Makes the task, and checks that the model can be asked its prompts; see `make_task`."""
    task = make_task(settings, seed=seed, folders=folders, chat=chat, tokenizer=tokenizer)
    if not chat and any(not isinstance(row["prompt"], str) for row in task.train_rows(1)):
        raise TaskError(
            f"task {task.name} has chat prompts, and the model's tokenizer has no chat template; task.chat_template "
            "names one"
        )
    # A template for prompts that are never chat would be ignored without a word.
    if settings.chat_template or settings.chat_template_kwargs:
        _check_chat(settings, task)
    return task


def _check_chat(settings: TaskSettings, task: Task) -> None:
    if all(isinstance(row["prompt"], str) for row in task.train_rows(LOOKED_AT)):
        key = "chat_template" if settings.chat_template else "chat_template_kwargs"
        hint = "; `chat = true` makes messages of them" if isinstance(settings, RowsSettings) else ""
        raise TaskError(f"{key} is for chat prompts, and task {task.name} has plain text{hint}")


def make_task(
    settings: TaskSettings, *, seed: int, folders: Sequence[Path], chat: bool, tokenizer: Any | None = None
) -> Task:
    """Makes the task.

    Args:
        settings: The study's `[task]` section.
        seed: The study's seed.
        folders: Where the user's modules and files are looked for.
        chat: Whether the model's tokenizer has a chat template.
        tokenizer: The model's, for rows that code makes.

    Raises:
        TaskError: where it cannot be made.
    """
    match settings:
        case DatasetSettings():
            from objectives.tasks.dataset import dataset_task

            task: Task = dataset_task(settings, seed=seed, folders=folders, tokenizer=tokenizer)
        case PreferencesSettings():
            from objectives.tasks.preferences import preferences_task

            task = preferences_task(settings, seed=seed, folders=folders, tokenizer=tokenizer)
        case Gsm8kSettings():
            from objectives.tasks.gsm8k import gsm8k_task

            task = gsm8k_task(settings, seed=seed, folders=folders, chat=chat)
        case ReasoningGymSettings():
            from objectives.tasks.reasoning_gym import reasoning_gym_task

            task = reasoning_gym_task(settings, seed=seed, chat=chat)
        case CustomTaskSettings():
            task = _custom_task(settings, seed=seed, folders=folders)
        case _:
            from objectives.tasks.string_ops import StringOps

            task = StringOps(symbols=settings.symbols, seed=seed)
    return task


def _custom_task(settings: CustomTaskSettings, *, seed: int, folders: Sequence[Path]) -> Task:
    kind = load_reference(settings.name, folders)
    try:
        task: Any = kind(seed=seed, **settings.options)
    except Exception as error:
        raise TaskError(f"{settings.name} cannot be made: {type(error).__name__}: {error}") from error
    missing = [name for name in ATTRIBUTES if not hasattr(task, name)]
    if missing:
        raise TaskError(f"{settings.name} is no task: it lacks {', '.join(missing)}")
    made: Task = task
    return made
