"""What a task takes from the user's own folders: code, and data files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from objectives.task_settings import CustomTaskSettings, DatasetSettings, Gsm8kSettings, TaskSettings
from objectives.tasks.code_rows import is_code
from objectives.tasks.rows import is_local


def own_references(task: TaskSettings) -> list[str]:
    """Code that the study names, each as `module:name`."""
    rows = [task.data] if isinstance(task, DatasetSettings) and is_code(task.data) else []
    own_task = [task.name] if isinstance(task, CustomTaskSettings) else []
    return [*task.named_rewards().values(), *rows, *own_task]


def own_modules(task: TaskSettings) -> list[str]:
    """The modules that the code is in, each once."""
    return list(dict.fromkeys(reference.partition(":")[0] for reference in own_references(task)))


def own_files(task: TaskSettings, folders: Sequence[Path] = ()) -> list[str]:
    """Data files that the study names; folders of data only where these are given, in which they are looked for."""
    if not isinstance(task, DatasetSettings | Gsm8kSettings):
        return []
    return [name for name in (task.data, task.held_out_split) if name and is_local(name, folders)]
