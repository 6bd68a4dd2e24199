"""A look at the storage every few seconds, while nothing else asks it: is it there, and what do others want?"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from sweep.storage.file_watch import FileWatch
from sweep.storage.requests import Requests, read_requests

if TYPE_CHECKING:
    import optuna

LOOK_S = 2.0
"""Seconds between two looks."""


class StorageWatch:
    """Watches one study's storage."""

    def __init__(self, study: optuna.Study) -> None:
        self._study, self._file, self._looked = study, FileWatch(study), -math.inf

    def look(self, *, now: bool = False) -> Requests | None:
        """What other processes ask for; None where it is not yet time to look, unless it is to be looked at now.

        Raises:
            StorageError: where the storage's file is gone.
        """
        if not now and time.monotonic() < self._looked + LOOK_S:
            return None
        self._file.check()
        self._looked = time.monotonic()
        return read_requests(self._study)
