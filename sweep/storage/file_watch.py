"""Whether a study's SQLite file is still the one that was opened: a deleted one is written to unseen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import StorageError
from sweep.storage.address import sqlite_path
from sweep.storage.optuna_internals import relational_storage

if TYPE_CHECKING:
    import optuna


class FileWatch:
    """Watches the file behind a study; other databases tell by themselves when they are gone."""

    def __init__(self, study: optuna.Study) -> None:
        storage = relational_storage(study)
        self._path = None if storage is None else sqlite_path(storage.url)
        self._was = None if self._path is None else self._identity(self._path)

    def check(self) -> None:
        """Checks that it is there.

        Raises:
            StorageError: where it was deleted, or another stands in its place.
        """
        if self._path is not None and self._was is not None and self._identity(self._path) != self._was:
            raise StorageError(
                f"{self._path} was deleted or replaced while the study ran: what has ended since then is lost; put it "
                "back, if you can, and run the same command again"
            )

    @staticmethod
    def _identity(path: Path) -> tuple[int, int] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino
