"""Where a worker's temporary files go: memory for what is small and short-lived, a disk for the rest."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from objectives.machine import can_run_programs
from sweep.errors import StorageError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a memory-backed folder, entered only through tempfile  # nosec B108
PREFIX = "rank-sweep-"
LOCK = "lock"
LEAST_FREE = 256 * 2**20
"""Bytes that a folder for temporary files must have free."""
UNFINISHED_S = 3600.0
"""After so many seconds, a folder that has not got its name yet is nobody's: whoever lives gives it one at once."""


def memory_folder() -> Path | None:
    """Where temporary folders are held in memory; None where there is no such place."""
    return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None


def disk_folder(near: Path) -> Path:
    """Where temporary folders lie on a disk with room for them, from which compiled code may be loaded.

    Args:
        near: A folder to fall back on, where the system's own folder for temporary files is full or forbids programs.

    Raises:
        StorageError: where neither will do.
    """
    usual = Path(tempfile.gettempdir())
    for folder in (usual, near):
        if can_run_programs(folder) and shutil.disk_usage(folder).free >= LEAST_FREE:
            return folder
    raise StorageError(
        f"no place for temporary files: {usual} and {near} have less than {LEAST_FREE >> 20} MiB free or are mounted "
        "noexec; set TMPDIR to a folder that has room"
    )


class Scratch:
    """A worker's temporary folders: `disk`, and `memory` where there is such a place. They go when it does.

    Who is killed removes nothing. So each folder holds a file that is locked for as long as its owner lives, whichever
    container that is in, and whoever makes folders in the same place removes those that nobody holds any more.
    """

    def __init__(self, near: Path) -> None:
        """Makes them.

        Args:
            near: See `disk_folder`.

        Raises:
            StorageError: where there is no place for them.
        """
        near.mkdir(parents=True, exist_ok=True)
        self._locks: list[TextIO] = []
        self.disk = self._make(disk_folder(near), near)
        in_memory = memory_folder()
        self.memory = None if in_memory is None else self._make(in_memory, near)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The disk's first, then memory's, as a worker expects them."""
        return (self.disk,) if self.memory is None else (self.disk, self.memory)

    def remove(self) -> None:
        """Removes them; what is gone already, or in use, is passed over."""
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)
        for lock in self._locks:
            lock.close()

    def _make(self, place: Path, near: Path) -> Path:
        remove_abandoned(place)
        # Under another name until it is locked: nobody takes it for abandoned.
        made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=place))
        lock = (made / LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        print(near.resolve(), file=lock, flush=True)  # whoever finds the folder sees whose it is
        self._locks.append(lock)
        return made.rename(made.with_name(made.name.removeprefix(".")))


def remove_abandoned(place: Path) -> None:
    """Removes folders whose owners are gone."""
    for folder in place.glob(f"{PREFIX}*"):
        _remove_unheld(folder, opened="r+")
    for folder in place.glob(f".{PREFIX}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > UNFINISHED_S:
                # Whoever was killed in between may not have made its lock.
                _remove_unheld(folder, opened="a+")


def _remove_unheld(folder: Path, *, opened: str) -> None:
    """Removes a folder unless somebody holds its lock.

    Args:
        folder: The folder.
        opened: How its lock is opened: `r+` leaves a folder without one alone, `a+` makes it.
    """
    # It is in use, another user's, or none of ours.
    with suppress(OSError), (folder / LOCK).open(opened) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
