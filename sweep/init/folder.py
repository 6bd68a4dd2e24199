"""What `sweep init` writes: a folder with `study.toml`, `task.py` and `REPORT.md`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from sweep.errors import UsageError
from sweep.init.draft import Draft
from sweep.init.source import Source
from sweep.init.task_file import TaskFile
from sweep.study.reading import parse_study

COMMENT_COLUMN = 40


def study_toml(draft: Draft, *, source: str) -> str:
    """A study file in which every value says where it comes from.

    Raises:
        StudyFileError: where what was read does not make a study.
    """
    content = {section: {key: value for key, (value, _) in keys.items()} for section, keys in draft.values.items()}
    # Nothing is written that `sweep run` would refuse.
    parse_study(content, source="study.toml")
    lines = [f"# Made by `sweep init` from {source}; what follows a `#` says where a value comes from."]
    for section, keys in draft.values.items():
        lines += ["", f"[{section}]"]
        lines += [_line(key, value, comment) for key, (value, comment) in keys.items()]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any, comment: str) -> str:
    shown = _inline(key, value)
    return f"{shown:<{COMMENT_COLUMN}}  # {comment}" if comment else shown


def _inline(key: str, value: Any) -> str:
    """One TOML line, tables and lists inline."""
    if isinstance(value, dict):
        return f"{key} = {{ {', '.join(_inline(inner, item) for inner, item in value.items())} }}"
    if isinstance(value, list | tuple):
        items = [_inline("x", item).partition(" = ")[2] for item in value]
        return f"{key} = [{', '.join(items)}]"
    return tomli_w.dumps({key: value}).strip()


def report(draft: Draft, task: TaskFile, *, source: Source) -> str:
    """What became of the source, in Markdown."""
    carried = [
        f"`{section}.{key}` = `{_inline('x', value).partition(' = ')[2]}`{f': {comment}' if comment else ''}"
        for section, keys in draft.values.items()
        for key, (value, comment) in keys.items()
    ]
    parts = [f"# {source.path.name} as a study", ""]
    for title, lines in (
        ("Could not be said", draft.unsaid),
        ("Changed", draft.changed),
        (
            "To look at by hand",
            [*source.notes, *draft.look_at, *task.look_at, *(f"not read: {where}" for where in source.unread)],
        ),
        ("Carried over", carried),
    ):
        parts += [f"## {title}", "", *([f"- {line}" for line in lines] or ["Nothing."]), ""]
    return "\n".join(parts)


def write_folder(folder: Path, files: dict[str, str]) -> None:
    """Writes a new folder.

    Raises:
        UsageError: where there is something of that name, or it cannot be written.
    """
    try:
        # Never into a folder that is there: its task.py may have been edited by hand.
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    except FileExistsError as error:
        raise UsageError(f"--output {folder}: already exists; name a new folder") from error
    except OSError as error:
        raise UsageError(f"--output {folder}: cannot be written: {error.strerror}") from error
