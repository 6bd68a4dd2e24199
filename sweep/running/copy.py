"""A study, with its confirmations, copied into another storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from sweep.confirmation.naming import family
from sweep.errors import StorageError
from sweep.storage.address import driver_url, hide_password, is_postgres
from sweep.storage.copying import copy_studies, count_trials
from sweep.storage.database import log_folder, open_storage, open_study
from sweep.storage.writer import sole_writer

MANY = 500
"""Trials from which on a copy takes long enough to be watched."""


def copy_study(name: str, *, storage: str, to: str, console: Console) -> list[str]:
    """Copies a study and its confirmations; a study that is being run is not copied.

    Args:
        name: The search's name.
        storage: Where it is stored, a SQLAlchemy URL.
        to: Where the copy goes. An SQLite file is made.
        console: Where progress is shown.

    Returns:
        What was copied, and where logs and adapters are, in sentences.

    Raises:
        StorageError: where the target has a study of one of the names, or a storage cannot be read or written.
    """
    source = open_storage(storage, create=False)
    names = family(open_study(source, name))
    if driver_url(storage) == driver_url(to):
        raise StorageError(
            f"--to {hide_password(to)} is where study {name} is stored already; allowed: another storage"
        )
    target = open_storage(to, create=True)
    taken = {study.study_name for study in target.get_all_studies()} & set(names)
    if taken:
        raise StorageError(
            f"{hide_password(to)} has a study {min(taken)!r} already, and no study is written over; allowed: a storage "
            "without one"
        )
    with ExitStack() as held:
        for study in names:
            logs = log_folder(storage, study)
            # Without a log folder nobody has run it from here.
            if is_postgres(storage) or logs.is_dir():
                held.enter_context(sole_writer(source, study, logs=logs))
        counts = {study: count_trials(source, study) for study in names}
        total = sum(counts.values())
        with Progress(console=console, transient=True, disable=total < MANY or not console.is_terminal) as progress:
            task = progress.add_task(f"copying {total} trials", total=total)
            copy_studies(source, target, names, copied=lambda trials: progress.advance(task, trials))
    trials = " and ".join(f"{study} ({count} trials)" for study, count in counts.items())
    return [
        f"copied {trials} to {hide_password(to)}",
        *_about_files([(log_folder(storage, study), log_folder(to, study)) for study in names]),
    ]


def _about_files(folders: Sequence[tuple[Path, Path]]) -> Iterator[str]:
    """Where logs and adapters are, which are files beside a storage, and where the copy looks for them."""
    for here, there in folders:
        if here.is_dir() and here != there:
            yield f"its logs and kept adapters stay in {here}; the copy looks for them in {there}: copy that folder too"
        elif here.is_dir():
            yield f"its logs and kept adapters are found where they are, from this folder: {here}"
