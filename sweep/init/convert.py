"""A source as the files of a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sweep.init.draft import Draft
from sweep.init.folder import report, study_toml
from sweep.init.imports import missing_behind, modules_beside
from sweep.init.recipe import find_recipe
from sweep.init.source import read_source
from sweep.init.study import draft_study, study_name
from sweep.init.task_file import TaskFile, task_file
from sweep.init.unfolding import unfold


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """The files by name, and what their reader should know."""

    files: dict[str, str]
    draft: Draft
    look_at: tuple[str, ...]


def convert(path: Path, *, model: str | None = None) -> Converted:
    """Reads a notebook or script.

    Args:
        path: The file.
        model: The base model, instead of the one that it names.

    Raises:
        UsageError: where it cannot be read, trains nothing that can be swept, or does not come to a study.
    """
    source = unfold(read_source(path))
    recipe = find_recipe(source)
    task = task_file(recipe)
    beside = _beside(task, path)
    draft = draft_study(recipe, name=study_name(path), rewards=task.rewards, data=task.data, model=model)
    # Held out by prompt, one prompt would leave a side empty.
    if task.one_prompt:
        draft.put("task", "held_out_by", "row", "theirs is one prompt many times over")
    files = beside | {
        "study.toml": study_toml(draft, source=path.name),
        "task.py": task.text,
        "REPORT.md": report(draft, task, source=source),
    }
    return Converted(files=files, draft=draft, look_at=(*source.notes, *draft.look_at, *task.look_at))


def _beside(task: TaskFile, path: Path) -> dict[str, str]:
    """The modules beside a source that its code imports; it says what is missing."""
    found = modules_beside(task.missing, path.parent)
    if found:
        task.look_at.append(f"copied from beside {path.name}, as task.py imports them: {', '.join(sorted(found))}")
    if absent := missing_behind(task.missing, found):
        task.look_at.append(
            f"task.py imports {', '.join(absent)}, not installed here: install it, or put its file beside study.toml"
        )
    return found
