"""The right to write a study, which one process at a time has."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import StorageError
from sweep.storage.address import first_line, hide_password, is_postgres

if TYPE_CHECKING:
    import optuna

    from sweep.storage.bulk import BulkStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Who may write a study."""

    storage: BulkStorage
    """To write it through."""
    claim: Callable[[optuna.Study], None]
    """To be called once the study is there and known to be the one to write, before its trials are.

    The lock is held before, too, and what a study is made with is written under it. From the claim on, it is noticed as
    well where somebody else had it while the connection was lost. A run that is refused for its settings claims
    nothing, and so takes over from nobody.
    """


@contextmanager
def sole_writer(storage: BulkStorage, study: str, *, logs: Path) -> Iterator[Writer]:
    """Holds a study for this process alone, until it ends in whatever way.

    Whoever holds it knows that a trial found running is one that nobody runs any more. On a PostgreSQL server the lock
    lives in the connection that writes. For any other storage it is a file in the log folder: beside an SQLite file, or
    in the working folder, and then run a study from one folder only.

    Args:
        storage: Where the study is, or will be.
        study: Its name there.
        logs: Its log folder, which is made.

    Raises:
        StorageError: where another process holds it.
    """
    if is_postgres(storage.url):
        with _server_lock(storage, study) as writer:
            _make_folder(logs)
            yield writer
    else:
        with study_lock(logs):
            yield Writer(storage=storage, claim=lambda study: None)


@contextmanager
def study_lock(folder: Path) -> Iterator[None]:
    """Holds the lock file of a study's log folder.

    Raises:
        StorageError: where another process holds it.
    """
    _make_folder(folder)
    try:
        # Not "w", which would empty it of the process id of whoever holds the lock.
        lock_file = (folder / "lock").open("a+")
    except OSError as error:
        raise StorageError(f"cannot write logs to {folder}: {error.strerror}") from error
    with lock_file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise StorageError(
                f"study {folder.name} is being run by process {holder}; wait for it or stop it"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def _server_lock(storage: BulkStorage, study: str) -> Iterator[Writer]:
    from sqlalchemy.exc import SQLAlchemyError

    from sweep.storage.advisory_lock import AdvisoryLock
    from sweep.storage.patience import StillHeldError
    from sweep.storage.server import writing_storage

    own, lock = writing_storage(storage), AdvisoryLock(study)
    lock.attach(own.engine)
    try:
        try:
            # The first connection takes the lock, or is refused it.
            own.engine.connect().close()
        except StillHeldError as error:
            raise StorageError(f"study {study} is being run by this very process; wait for it or stop it") from error
        except SQLAlchemyError as error:
            url = storage.url
            raise StorageError(f"cannot open {hide_password(url)}: {first_line(error, url)}") from error
        yield Writer(storage=own, claim=lock.claim)
    finally:
        lock.release(own.engine)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write logs to {folder}: {error.strerror}") from error
