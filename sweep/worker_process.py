"""The supervisor's handle on a worker process."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from objectives.preview import Preview
from objectives.settings import WorkerSettings
from objectives.trial import FromWorker, Stop, ToWorker

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a memory-backed folder, entered only through tempfile


def memory_folder() -> Path | None:
    """Where temporary folders are held in memory; None where there is no such place."""
    return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None


def _run(*arguments: object) -> None:
    """What the spawned process runs. Imported there, so that this process stays light."""
    from objectives.worker import main

    main(*arguments)  # type: ignore[arg-type]


class WorkerProcess:
    """A spawned worker: it loads in the background, and its messages are read with `receive`."""

    def __init__(self, settings: WorkerSettings, log: Path, *, preview_prompts: int = 0) -> None:
        """Spawns it.

        Args:
            settings: What every trial of this worker shares.
            log: Where output goes that belongs to no trial.
            preview_prompts: With any, the worker only samples the base policy, sends a `Preview` and ends.
        """
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.log = log
        self._scratch = Path(tempfile.mkdtemp(prefix="rank-sweep-", dir=memory_folder()))
        self._process = context.Process(
            target=_run,
            args=(theirs, settings, log, self._scratch, preview_prompts),
            name="rank-sweep-worker",
            daemon=False,
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        return self._process.pid

    def send(self, message: ToWorker) -> None:
        """Sends a message; one to a dead worker is lost, and `receive` will say that it died."""
        try:
            self.connection.send(message)
        except OSError:
            return

    def receive(self, timeout_s: float) -> FromWorker | Preview | None:
        """The next message, or None where none came in time.

        Raises:
            WorkerDiedError: where the worker is dead and has nothing more to say.
        """
        wait([self.connection, self._process.sentinel], timeout=timeout_s)
        try:
            if self.connection.poll():
                return cast(FromWorker | Preview, self.connection.recv())
        except (EOFError, OSError):
            # It has closed its end: whatever still holds it there is not worth waiting for.
            self._process.join(timeout=10)
            self._process.kill()
            self._process.join()
        if self._process.is_alive():
            return None
        raise WorkerDiedError(self._cause_of_death())

    def _cause_of_death(self) -> str:
        code = self._process.exitcode
        if code is not None and code < 0:
            hint = "; the system may have run out of memory" if -code == signal.SIGKILL else ""
            return f"the worker was killed by {signal.Signals(-code).name}{hint}"
        return f"the worker ended with exit code {code}"

    def stop(self, *, grace_s: float) -> None:
        """Asks the worker to stop, kills it after the grace period, and removes what it left behind."""
        if self._process.is_alive():
            self.send(Stop())
            self._process.join(timeout=grace_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.connection.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(grace_s=30 if kind is None else 2)


class WorkerDiedError(Exception):
    """A worker process ended without being asked to; the message says how."""
