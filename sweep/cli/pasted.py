"""Commands that are printed for the reader to paste into a shell."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from typing import Any

from sweep.errors import StudyFileError
from sweep.storage.address import hide_password
from sweep.storage.database import changed_keys
from sweep.storage.default import DEFAULT_STORAGE
from sweep.study.file import StudyFile
from sweep.study.reading import find_study, parse_study, read_toml


def sweep_command(*words: str, storage: str, overrides: Sequence[str] = ()) -> str:
    """A `sweep` command in full, quoted for a shell.

    Args:
        words: The subcommand and its arguments.
        storage: Where the study is stored. A URL with a password is never printed: SWEEP_STORAGE stands for it.
        overrides: What `--set` was given.
    """
    sets = [part for override in overrides for part in ("--set", override)]
    command = shlex.join(["sweep", *words, *sets])
    if storage in (DEFAULT_STORAGE, os.environ.get("SWEEP_STORAGE")):
        return command
    return f"{command} --storage " + (shlex.quote(storage) if hide_password(storage) == storage else '"$SWEEP_STORAGE"')


def confirm_command(study: str, stored: StudyFile, *, storage: str) -> str | None:
    """What confirms a stored study as it was run; None where its file is not known.

    Args:
        study: How the reader named it: a shipped study, a file, or a name in storage.
        stored: Its settings, as they were stored.
        storage: Where it is stored.
    """
    try:
        file = find_study(study)
        declared = parse_study(read_toml(file), source=study).model_dump(mode="json")
    except (StudyFileError, OSError, ValueError):
        return None
    settings = stored.model_dump(mode="json")
    changed = [name.partition(":")[0] for name in changed_keys(declared, settings)]
    overrides = [f"{name}={_toml(_value(settings, name))}" for name in changed if _value(settings, name) is not None]
    return sweep_command("confirm", study, storage=storage, overrides=overrides)


def _value(settings: dict[str, Any], name: str) -> Any:
    section, _, key = name.partition(".")
    return settings[section].get(key)


def _toml(value: Any) -> str:
    """A value as `--set` reads it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    # JSON's texts, numbers and lists are TOML as they stand; its objects are not.
    return json.dumps(value)
