"""The user's own code and data as a study was run with them: hashed, so that a change between two runs is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from objectives.errors import TaskError
from objectives.memory.config_files import BROUGHT
from objectives.tasks.user_files import own_files, own_modules
from objectives.user_code.modules import find_file
from objectives.user_code.sources import own_sources
from sweep.errors import StudyMismatchError
from sweep.study.file import StudyFile

WEIGHTS = "model*.safetensors"


def own_paths(config: StudyFile) -> dict[str, Path]:
    """Each reward or task module, the user's modules that it imports, and each data file or folder, by its name."""
    folders = config.code_folders
    modules = own_sources(own_modules(config.task), folders)
    paths = {_name(path, folders): path for path in modules.values()}
    first = [] if config.model.adapter is None else [config.model.adapter]
    for name in [*own_files(config.task, folders), *first]:
        try:
            paths[name] = find_file(name, folders)
        except TaskError:  # whoever reads it says so
            continue
    return paths


def source_hashes(config: StudyFile) -> dict[str, str]:
    """The SHA-256 of each of `own_paths`, of functions sent by value, and of weights that are made where they are."""
    hashes = dict(config.sources_by_value)
    for name, path in own_paths(config).items():
        hashes[name] = _digest(sorted(path.rglob("*")) if path.is_dir() else [path])
    if config.model.name in BROUGHT:
        # Made again, or brought from elsewhere, they are others under the same name.
        hashes[config.model.name] = _digest(sorted(Path(config.model.path).glob(WEIGHTS)))
    return hashes


def changed_files(stored: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    """Each file that differs, and how."""
    changes = []
    for name in sorted(stored.keys() | current.keys()):
        if name not in current:
            changes.append(f"{name} is no longer used")
        elif name not in stored:
            changes.append(f"{name} is new")
        elif stored[name] != current[name]:
            changes.append(f"{name} has changed")
    return changes


def check_unchanged(stored: Mapping[str, str], config: StudyFile) -> None:
    """Checks that the user's files are what they were when the study was started.

    Raises:
        StudyMismatchError: naming each that is not.
    """
    if changes := changed_files(stored, source_hashes(config)):
        raise StudyMismatchError(f"while the study ran, {'; '.join(changes)}: undo that, or name another study")


def _name(path: Path, folders: Iterable[Path]) -> str:
    """A module's path from the folder that it was found in, so that a study can move with its files."""
    for folder in folders:
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return path.name


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
