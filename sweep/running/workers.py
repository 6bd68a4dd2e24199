"""The workers of a study as its supervisor sees them, and those that are processes of this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from objectives.settings.sections import WorkerSettings
from objectives.trial.messages import FromWorker, ToWorker
from sweep.running.interrupts import Deferred
from sweep.running.worker_process import WorkerDiedError, WorkerProcess


class Workers(Protocol):
    """Several workers, numbered from 0, of which some may not be running."""

    @property
    def count(self) -> int:
        """How many there may be at once."""
        ...

    def start(self, k: int) -> None:
        """Starts worker k, which does not run."""
        ...

    def receive(self, timeout_s: float) -> tuple[int, FromWorker | WorkerDiedError] | None:
        """The next that a worker has to say, or that it has died; None where nothing came in time.

        Raises:
            KeyboardInterrupt: where Ctrl-C or SIGTERM has come since the workers were entered.
        """
        ...

    def send(self, k: int, message: ToWorker) -> None:
        """Sends a message to worker k; one to a dead worker is lost, and `receive` will say that it died."""
        ...

    def stop(self, k: int) -> None:
        """Ends worker k, which is not wanted any more."""
        ...

    def log(self, k: int) -> str:
        """Where what worker k prints goes, in words that follow "log:"."""
        ...

    def identity(self, k: int) -> int | str | None:
        """What is stored of whoever ran a trial: a process id, or a machine's name and one."""
        ...

    def is_ready(self, k: int) -> bool:
        """Whether worker k has loaded everything."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LocalWorkers:
    """Worker processes of this machine."""

    def __init__(
        self, settings: WorkerSettings, log_folder: Path, *, environments: Sequence[Mapping[str, str]] = ({},)
    ) -> None:
        """Starts none.

        Args:
            settings: What every trial of every worker shares.
            log_folder: Where their own logs go.
            environments: What each worker's environment holds besides this process's.
        """
        self._settings, self._log_folder, self._environments = settings, log_folder, environments
        self._processes: dict[int, WorkerProcess] = {}
        self._logs: dict[int, Path] = {}
        self._identities: dict[int, int | None] = {}
        self._interrupts = Deferred()
        self._last = 0

    @property
    def count(self) -> int:
        """See `Workers`."""
        return len(self._environments)

    def start(self, k: int) -> None:
        """See `Workers`.

        Raises:
            StorageError: where there is no place for its temporary files.
        """
        which = f"-{k}" if self.count > 1 else ""
        self._logs[k] = self._log_folder / f"worker-{time.strftime('%Y%m%d-%H%M%S')}{which}.log"
        self._processes[k] = WorkerProcess(self._settings, self._logs[k], environment=self._environments[k])
        self._identities[k] = self._processes[k].pid

    def receive(self, timeout_s: float) -> tuple[int, FromWorker | WorkerDiedError] | None:
        """See `Workers`. Nobody who talks much keeps the others from being heard."""
        self._interrupts.check()
        wait([source for process in self._processes.values() for source in process.sources], timeout=timeout_s)
        for k in sorted(self._processes, key=lambda k: (k - self._last - 1) % self.count):
            try:
                message = self._processes[k].poll()
            except WorkerDiedError as death:
                self._last = k
                # It is dead: this removes its temporary files.
                self._processes.pop(k).stop(grace_s=0)
                return k, death
            if message is not None:
                self._last = k
                return k, message
        return None

    def send(self, k: int, message: ToWorker) -> None:
        """See `Workers`."""
        if k in self._processes:
            self._processes[k].send(message)

    def stop(self, k: int) -> None:
        """See `Workers`."""
        if (process := self._processes.pop(k, None)) is not None:
            process.stop(grace_s=2)

    def log(self, k: int) -> str:
        """See `Workers`."""
        return str(self._logs[k])

    def identity(self, k: int) -> int | None:
        """See `Workers`."""
        return self._identities[k]

    def is_ready(self, k: int) -> bool:
        """See `Workers`."""
        return k in self._processes and self._processes[k].watch.ready

    def __enter__(self) -> Self:
        self._interrupts.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops all at once. Where they are interrupted, they have some seconds to write down where they are."""
        try:
            deadline = time.monotonic() + (30 if kind is None else 5)
            for process in self._processes.values():
                process.ask_to_stop()
            for process in self._processes.values():
                process.end(deadline=deadline)
            self._processes.clear()
        finally:
            self._interrupts.end()
