"""What runs on a machine of a Ray cluster: a worker process as any other, and an actor that relays its messages.

The actor holds no torch and takes no decision. It ends when its driver has not called for two minutes: a machine that
was cut off frees its GPU by itself, and what it says later nobody hears.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from objectives.settings.sections import WorkerSettings
from objectives.trial.messages import FromWorker, ToWorker
from sweep.running.worker_process import WorkerDiedError, WorkerProcess

POLL_S = 20.0
"""How long a call for messages waits where there are none."""
LEASE_S = 120.0
"""Seconds without a call after which a host ends its worker and itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker runs."""

    machine: str
    pid: int | None
    log: str


class Host:
    """One worker process of this machine, for a supervisor on another."""

    def __init__(self, settings: WorkerSettings, name: str, *, study_travels: bool) -> None:
        """Starts nothing yet.

        Args:
            settings: What the worker is to load, with folders of the supervisor's machine.
            name: Of the worker, for its log.
            study_travels: Whether the study file's folder has been sent along: it is our working folder then.
        """
        logs = _log_folder(settings)
        folders = (Path.cwd(),) if study_travels else settings.code_folders
        self._settings = settings.model_copy(update={"log_folder": logs, "code_folders": folders})
        self._log = logs / f"worker-{time.strftime('%Y%m%d-%H%M%S')}-{name}.log"
        self._worker: WorkerProcess | None = None
        self._called = time.monotonic()
        threading.Thread(target=self._watch_lease, daemon=True).start()

    async def begin(self) -> Place | WorkerDiedError:
        """Starts the worker."""
        self._called = time.monotonic()
        try:
            self._worker = WorkerProcess(self._settings, self._log)
        except Exception as error:
            return WorkerDiedError(f"cannot start a worker: {error}", reward=None, loading=True)
        return Place(machine=platform.node(), pid=self._worker.pid, log=str(self._log))

    async def receive(self) -> list[FromWorker | WorkerDiedError]:
        """What the worker has said since the last call; waits for it, but not for long."""
        self._called = time.monotonic()
        return await asyncio.to_thread(self._listen)

    def _listen(self) -> list[FromWorker | WorkerDiedError]:
        said: list[FromWorker | WorkerDiedError] = []
        if (worker := self._worker) is None:
            return said
        deadline = time.monotonic() + POLL_S
        try:
            while not said and time.monotonic() < deadline:
                worker.listen(timeout_s=0.5)
                while (message := worker.poll()) is not None:
                    said.append(message)
        except WorkerDiedError as death:
            self._worker = None
            worker.stop(grace_s=0)
            said.append(death)
        return said

    async def send(self, message: ToWorker) -> None:
        """Passes a message on."""
        self._called = time.monotonic()
        if self._worker is not None:
            self._worker.send(message)

    async def renew(self) -> None:
        """Says that the driver lives, whatever else it waits for."""
        self._called = time.monotonic()

    async def stop(self, grace_s: float) -> None:
        """Ends the worker."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await asyncio.to_thread(worker.stop, grace_s=grace_s)

    def _watch_lease(self) -> None:
        while time.monotonic() - self._called < LEASE_S:
            time.sleep(1.0)
        if self._worker is not None:
            self._worker.stop(grace_s=0)
        # The whole process: sys.exit would end this thread alone.
        os._exit(1)


def _log_folder(settings: WorkerSettings) -> Path:
    """The study's own log folder where it can be reached from here, else one among temporary files.

    Checkpoints lie there too: where the folder is shared, a trial goes on from its checkpoint on any machine.
    """
    wanted = settings.log_folder
    if wanted.is_dir() and os.access(wanted, os.W_OK):
        return wanted
    instead = Path(tempfile.gettempdir()) / "rank-sweep-logs" / wanted.name
    instead.mkdir(parents=True, exist_ok=True)
    return instead
