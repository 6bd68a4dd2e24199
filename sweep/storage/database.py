"""Where studies live: Optuna's RDB storage, one SQLite file by default, and the studies in it."""

from __future__ import annotations

import difflib
import json
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sweep.errors import StorageError, StudyMismatchError, SweepError
from sweep.storage.address import (
    driver_url,
    first_line,
    hide_password,
    is_postgres,
    patience_s,
    place_name,
    sqlite_path,
)
from sweep.storage.attributes import CONFIG, SCHEMA, SCORES, SOURCES
from sweep.storage.ladders import LADDERS, ladder_hint
from sweep.storage.network_disk import magic_number, network_disk
from sweep.storage.schema import CURRENT, as_declared
from sweep.study.file import StudyFile
from sweep.study.sources import changed_files, source_hashes

if TYPE_CHECKING:
    import optuna

    from sweep.storage.bulk import BulkStorage


def open_storage(url: str, *, create: bool, curves: bool = True) -> BulkStorage:
    """Opens a storage; SQLite files are put into WAL mode, so that a dashboard can read while a sweep writes.

    Args:
        url: A SQLAlchemy URL.
        create: Make the SQLite file if there is none.
        curves: Whether trials that are read through it have their learning curves: see `BulkStorage`.

    Raises:
        StorageError: where it cannot be opened.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    from sweep.storage.bulk import BulkStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = sqlite_path(url)
    if path is not None and not create and not path.is_file():
        raise StorageError(f"no storage at {path}; `sweep run` makes one, --storage names another")
    if "://" not in url:
        raise StorageError(
            f"cannot open {url!r}: not a URL; allowed: sqlite:/// and a file, as in sqlite:///{url or 'rank-sweep.db'}"
            ", or postgresql://..."
        )
    patience = patience_s(url)
    try:
        options: dict[str, Any] = {}
        if path is not None:
            _open_file(path, create=create)
            # sqlite3 itself gives a lock of another process up after 5 s.
            options = {"connect_args": {"timeout": 60}}
        elif is_postgres(url):
            from sweep.storage.server import check_driver, reading_options

            check_driver(url)
            options = reading_options(url)
        storage = BulkStorage(driver_url(url), engine_kwargs=options)
    except SweepError:
        raise
    except (SQLAlchemyError, sqlite3.Error, OSError, ImportError, RuntimeError, ValueError) as error:
        raise StorageError(f"cannot open {hide_password(url)}: {first_line(error, url)}") from error
    storage.curves, storage.patience_s = curves, patience
    return storage


def _open_file(path: Path, *, create: bool) -> None:
    """Puts an SQLite file into WAL mode."""
    folder = path.absolute().parent
    if create and (disk := network_disk(magic_number(folder))):
        raise StorageError(
            f"{path} would lie on {disk}, where SQLite's log is not safe; allowed: a local folder, or a PostgreSQL "
            "server, as in --storage postgresql://USER@HOST/DATABASE"
        )
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    # The context ends the transaction, not the connection.
    connection.close()


def log_folder(url: str, study: str) -> Path:
    """Where a study's logs go: beside its SQLite file, else in the working folder, for each database of its own.

    Raises:
        StorageError: where the study's name would lead elsewhere.
    """
    if Path(study).name != study:
        raise StorageError(f"study {study!r} in storage has a name that no folder can have")
    path = sqlite_path(url)
    parent, stem = (path.parent, path.stem) if path is not None else (Path(), f"rank-sweep-{place_name(url)}")
    return parent.absolute() / f"{stem}.logs" / study


def open_study(storage: optuna.storages.RDBStorage, name: str) -> optuna.Study:
    """Loads a study to read it.

    Raises:
        StorageError: where the storage has none of that name.
    """
    import optuna

    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError as error:
        names = [stored.study_name for stored in storage.get_all_studies()]
        # People give the study's file for its name.
        near = difflib.get_close_matches(Path(name).stem, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise StorageError(
            f"no study {name!r} in this storage; {hint}it has: {', '.join(names) or 'none yet'}"
        ) from error


def stored_study(storage: optuna.storages.RDBStorage, name: str) -> optuna.Study | None:
    """A study, if the storage has one of that name."""
    names = [stored.study_name for stored in storage.get_all_studies()]
    return open_study(storage, name) if name in names else None


def create_or_match_study(
    storage: optuna.storages.RDBStorage,
    config: StudyFile,
    sampler: optuna.samplers.BaseSampler,
    *,
    pruner: optuna.pruners.BasePruner | None = None,
    name: str | None = None,
    schema: int = CURRENT,
) -> optuna.Study:
    """Loads the study to continue it, or creates it.

    Args:
        storage: Where.
        config: What it is.
        sampler: Proposes its trials.
        pruner: May end them early; default: nobody may.
        name: In storage; default: the study file's.
        schema: What a new study is begun under: a confirmation has its search's.

    Raises:
        StudyMismatchError: where the stored study was run with other settings; it says which.
    """
    import optuna

    study = optuna.create_study(
        study_name=name or config.study.name,
        storage=storage,
        sampler=sampler,
        pruner=pruner or optuna.pruners.NopPruner(),
        direction="maximize",
        load_if_exists=True,
    )
    # A study that no trial was started of may still become another one.
    if CONFIG not in study.user_attrs or not study.get_trials(deepcopy=False):
        study.set_user_attr(SCHEMA, schema)
    else:
        config = as_declared(study, config)
        match_study(study, config)
    study.set_user_attr(CONFIG, config.model_dump(mode="json"))
    if SOURCES not in study.user_attrs or not _has_scores(study):
        study.set_user_attr(SOURCES, source_hashes(config))
    return study


def match_study(study: optuna.Study, config: StudyFile) -> None:
    """Checks that a stored study, if it has settings, was run with these, and with the user's files as they are now.

    Raises:
        StudyMismatchError: where it was not; it says what differs.
    """
    stored, hint = study.user_attrs.get(CONFIG), ""
    # Settings that came with a later version had their defaults when the study was run.
    with suppress(ValidationError):
        if stored:
            read = StudyFile.model_validate(stored)
            stored, hint = read.model_dump(mode="json"), ladder_hint(study, read, config)
    if stored is not None and (changes := changed_keys(stored, config.model_dump(mode="json"))):
        ladders_alone = all(change.startswith(tuple(f"space.{name}:" for name in LADDERS)) for change in changes)
        raise StudyMismatchError(
            f"study {study.study_name!r} in storage was run with other settings: {'; '.join(changes)}. "
            + (hint if hint and ladders_alone else "Give it another study.name, or undo the change")
        )
    # Until a trial has a score, there is none that a new one could not be compared with.
    files = study.user_attrs.get(SOURCES)
    if files is not None and _has_scores(study) and (changes := changed_files(files, source_hashes(config))):
        raise StudyMismatchError(
            f"study {study.study_name!r} in storage was run with other files: {'; '.join(changes)}. "
            "Give it another study.name, or undo the change"
        )


def _has_scores(study: optuna.Study) -> bool:
    return any(SCORES in trial.user_attrs for trial in study.get_trials(deepcopy=False))


MAY_CHANGE = {
    "study.description", "study.keep_adapters", "search.trials", "learner.pack_size", "learner.report_to",
    "task.reward_timeout_s",
}  # fmt: skip
"""Settings that say nothing about what any one trial is, besides all of `[run]`."""


def changed_keys(stored: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """Each setting that differs, as `section.key: stored -> current`."""
    changes = []
    for section in sorted((stored.keys() | current.keys()) - {"run"}):
        old, new = stored.get(section, {}), current.get(section, {})
        for key in sorted(old.keys() | new.keys()):
            name = f"{section}.{key}"
            if name not in MAY_CHANGE and _differ(old.get(key), new.get(key), ordered=name == "task.reward"):
                changes.append(f"{name}: {json.dumps(old.get(key))} -> {json.dumps(new.get(key))}")
    return changes


def _differ(old: Any, new: Any, *, ordered: bool) -> bool:
    """Whether two settings differ; where names have an order, as rewards have whose weights are a list, by that too."""
    return bool(old != new) or (ordered and list(old or ()) != list(new or ()))
