"""Reading a study: from TOML or a dictionary, overridden on the command line or in a call, and checked."""

from __future__ import annotations

import difflib
import importlib.resources
import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from objectives.settings.learner import OPERATIONAL, WRITTEN
from objectives.user_code.by_value import ByValue
from sweep.errors import StudyFileError
from sweep.study.file import StudyFile
from sweep.study.problems import explain

EITHER = (("verdict", ("keep", "tolerance")), ("space", ("alpha", "alpha_per_r")))
"""Keys of a section that say one thing in two ways."""


def shipped_studies() -> dict[str, Path]:
    """The study files that come with the project, by name."""
    folder = Path(str(importlib.resources.files("studies")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_study(name_or_path: str) -> Path:
    """A study file by its path, or a shipped one by its name.

    Raises:
        StudyFileError: where there is neither.
    """
    shipped = shipped_studies()
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    # A name that no file can have is no file.
    with suppress(OSError, ValueError):
        if path.suffix == ".toml" and path.is_file():
            return path
    near = difflib.get_close_matches(name_or_path, shipped, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    if path.suffix in (".ipynb", ".py"):
        hint = f"`sweep init {name_or_path}` makes a study of it; "
    raise StudyFileError(
        f"no study {name_or_path!r}; {hint}allowed: a path to a .toml file, or one of {', '.join(shipped)}"
    )


def load_study(name_or_path: str, overrides: Sequence[str] = ()) -> StudyFile:
    """Reads and checks a study.

    Args:
        name_or_path: A shipped study's name or a file's path.
        overrides: `section.key=value` each, the value in TOML, or a bare word for a string.

    Raises:
        StudyFileError: with everything that is wrong, one line each.
    """
    path = find_study(name_or_path)
    content = read_toml(path)
    settings = dict(map(parse_override, overrides))
    return make_study(content, settings, source=str(path), folder=path.parent)


def read_toml(path: Path) -> dict[str, Any]:
    """A study file's content, unchecked.

    Raises:
        StudyFileError: where it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows' editors begin files with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise StudyFileError(f"{path}: cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise StudyFileError(f"{path}: not TOML: {error}") from error


def make_study(
    content: dict[str, Any],
    settings: Mapping[str, Any],
    *,
    source: str,
    folder: Path,
    by_value: ByValue | None = None,
) -> StudyFile:
    """Checks a study's content, changed as asked.

    Args:
        content: What a study file holds; it is changed.
        settings: Values by `section.key`, which replace those of the content.
        source: What messages call it.
        folder: Where its modules and data files are looked for first.
        by_value: Functions of a notebook that it names.

    Raises:
        StudyFileError: with everything that is wrong, one line each.
    """
    _make_way(content, settings)
    for name, value in settings.items():
        set_value(content, name, value)
    study = parse_study(content, source=source)
    study._folder, study._by_value = folder, by_value
    return study


def parse_study(content: dict[str, Any], *, source: str) -> StudyFile:
    """Checks a study's content.

    Raises:
        StudyFileError: with everything that is wrong, one line each.
    """
    try:
        return StudyFile.model_validate(content, context=WRITTEN)
    except ValidationError as error:
        lines = [explain(problem, content) for problem in error.errors()]
        raise StudyFileError("\n".join(f"{source}: {line}" for line in dict.fromkeys(lines))) from error
    except (StudyFileError, RecursionError) as error:
        raise StudyFileError(f"{source}: {error}") from error


def _make_way(content: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Takes out of the content what the settings make void.

    That is the way to say a thing, where the settings say it in the other way; and what only the learner that they
    replace takes, unless it bears on what is trained.
    """
    for section, keys in EITHER:
        said = [key for key in keys if f"{section}.{key}" in settings]
        table = content.get(section)
        if len(said) == 1 and isinstance(table, dict):
            for key in set(keys) - set(said):
                table.pop(key, None)
    learner = content.get("learner")
    if isinstance(learner, dict) and "learner.name" in settings:
        for key, whose in OPERATIONAL.items():
            if settings["learner.name"] != whose:
                learner.pop(key, None)


def parse_override(override: str) -> tuple[str, Any]:
    """What `section.key=value` sets: the key, and the value in TOML, or a bare word for a string.

    Raises:
        StudyFileError: where it is not of that form.
    """
    name, equals, text = (part.strip() for part in override.partition("="))
    section, _, key = name.partition(".")
    if not (equals and section and key and text):
        raise StudyFileError(f"--set {override!r}; allowed: section.key=value, as in budget.steps=40")
    try:
        return name, tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return name, text


def line_of(path: Path, name: str) -> int | None:
    """The line of a study file that says `section.key`; None where there is no such line."""
    section, _, key = name.partition(".")
    here = ""
    # Only a newline ends a line of TOML: str.splitlines would also cut at separators inside strings.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            here = header[1].strip()
        elif here == section and re.match(rf"\s*{re.escape(key)}\s*=", line):
            return number
    return None


def set_value(content: dict[str, Any], name: str, value: Any) -> None:
    """Sets one key of a study's content.

    Raises:
        StudyFileError: where `name` is not `section.key`, or the content has no such section.
    """
    section, _, key = name.partition(".")
    table = content.setdefault(section, {})
    if not key or not isinstance(table, dict):
        raise StudyFileError(f"{name!r} sets nothing; allowed: section.key, as in budget.steps")
    table[key] = value
