"""What a task takes from the user's own folders: code, and data files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from objectives.errors import TaskError
from objectives.settings.task_common import RowsSettings
from objectives.settings.tasks import CustomTaskSettings, Gsm8kSettings, TaskSettings
from objectives.tasks.code_rows import is_code
from objectives.tasks.rows import is_local
from objectives.user_code.modules import find_file


def own_references(task: TaskSettings) -> list[str]:
    """Code that the study names, each as `module:name`."""
    rows = [task.data] if isinstance(task, RowsSettings) and is_code(task.data) else []
    own_task = [task.name] if isinstance(task, CustomTaskSettings) else []
    return [*task.named_rewards().values(), *rows, *own_task]


def own_modules(task: TaskSettings) -> list[str]:
    """The modules that the code is in, each once."""
    return list(dict.fromkeys(reference.partition(":")[0] for reference in own_references(task)))


def own_files(task: TaskSettings, folders: Sequence[Path] = ()) -> list[str]:
    """Files that the study names; folders of data only where these are given, in which they are looked for."""
    templates = [] if task.chat_template is None or _is_template(task.chat_template) else [task.chat_template]
    if not isinstance(task, RowsSettings | Gsm8kSettings):
        return templates
    return [name for name in (task.data, task.held_out_split) if name and is_local(name, folders)] + templates


def own_template(task: TaskSettings, folders: Sequence[Path]) -> str | None:
    """The chat template that the study names instead of the model's, as text; None where it names none.

    Raises:
        TaskError: where it is a file that is not there, or cannot be read.
    """
    if task.chat_template is None or _is_template(task.chat_template):
        return task.chat_template
    path = find_file(task.chat_template, folders)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"chat_template: {path} cannot be read: {error}") from error


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text
