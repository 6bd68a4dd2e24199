"""A source as the files of a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sweep.init.calls import find_recipe
from sweep.init.draft import Draft
from sweep.init.folder import report, study_toml
from sweep.init.source import read_source
from sweep.init.study import draft_study, study_name
from sweep.init.task_file import task_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """The files by name, and what their reader should know."""

    files: dict[str, str]
    draft: Draft
    look_at: tuple[str, ...]


def convert(path: Path) -> Converted:
    """Reads a notebook or script.

    Raises:
        StudyFileError: where it cannot be read, trains nothing that can be swept, or does not come to a study.
    """
    source = read_source(path)
    recipe = find_recipe(source)
    task = task_file(recipe)
    draft = draft_study(recipe, name=study_name(path), rewards=task.rewards, data=task.data)
    if task.one_prompt:
        draft.put("task", "held_out_by", "row", "theirs is one prompt many times over")
    files = {
        "study.toml": study_toml(draft, source=path.name),
        "task.py": task.text,
        "REPORT.md": report(draft, task, source=path.name, unread=source.unread),
    }
    return Converted(files=files, draft=draft, look_at=(*draft.look_at, *task.look_at))
