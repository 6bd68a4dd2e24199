"""The supervisor's handle on a worker process."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self, cast

from objectives.crash_log import log_crashes
from objectives.machine import memory_reached, total_memory
from objectives.preview import Preview
from objectives.settings.sections import WorkerSettings
from objectives.trial.messages import FromWorker, Stop, ToWorker
from sweep.running.interrupts import Deferred, held_back, let_through
from sweep.running.scratch import Scratch
from sweep.running.worker_death import explain_death
from sweep.running.worker_watch import WorkerWatch

QUIET_TRACKER = "ignore::UserWarning:multiprocessing.resource_tracker"
"""multiprocessing's tracker clears away the semaphores of a killed worker, and would say so in three lines."""


def _run(log: Path, *arguments: object) -> None:
    """What the spawned process runs. Imported there, so that this process stays light."""
    let_through()
    log_crashes(log)
    from objectives.worker import main

    main(log, *arguments)  # type: ignore[arg-type]


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Hides the program that started this process: `spawn` would run it again in the new one, which has no use for it.

    So a script needs no `if __name__ == "__main__":`.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class WorkerProcess:
    """A spawned worker: it loads in the background, and its messages are read with `receive`."""

    def __init__(self, settings: WorkerSettings, log: Path, *, preview_prompts: int = 0) -> None:
        """Spawns it.

        Args:
            settings: What every trial of this worker shares.
            log: Where output goes that belongs to no trial.
            preview_prompts: With any, the worker only samples the base policy, sends a `Preview` and ends.

        Raises:
            StorageError: where there is no place for its temporary files.
        """
        if QUIET_TRACKER not in sys.warnoptions:
            sys.warnoptions.append(QUIET_TRACKER)
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.log = log
        self.watch = WorkerWatch()
        self._interrupts = Deferred()
        self._memory: int | None = None
        self._scratch = Scratch(near=log.parent)
        self._process = context.Process(
            target=_run,
            args=(log, theirs, settings, self._scratch.folders, preview_prompts),
            name="rank-sweep-worker",
            daemon=False,
        )
        with held_back(), _no_main_module():
            self._process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        return self._process.pid

    def send(self, message: ToWorker) -> None:
        """Sends a message; one to a dead worker is lost, and `receive` will say that it died."""
        self.watch.sent(message)
        try:
            self.connection.send(message)
        except OSError:
            return

    def receive(self, timeout_s: float) -> FromWorker | Preview | None:
        """The next message, or None where none came in time.

        Raises:
            WorkerDiedError: where the worker is dead and has nothing more to say, or hangs in a reward function.
            KeyboardInterrupt: where Ctrl-C or SIGTERM has come since the worker was entered.
        """
        self._interrupts.check()
        wait([self.connection, self._process.sentinel], timeout=timeout_s)
        if self.pid is not None:
            self._memory = memory_reached(self.pid) or self._memory
        try:
            if self.connection.poll():
                message = cast(FromWorker | Preview, self.connection.recv())
                self.watch.received(message)
                return message
        except (EOFError, OSError):
            # It has closed its end: whatever still holds it there is not worth waiting for.
            self._process.join(timeout=10)
            self._kill()
        if not self._process.is_alive():
            raise self._death()
        if told := self.watch.hangs:
            self._kill()
            raise WorkerDiedError(told, reward=self.watch.stage.reward, loading=not self.watch.ready)
        return None

    def wait(self) -> FromWorker | Preview:
        """The next message, however long it takes. Raises what `receive` does."""
        while (message := self.receive(timeout_s=1.0)) is None:
            pass
        return message

    def _death(self) -> WorkerDiedError:
        reward = self.watch.stage.reward
        message = explain_death(
            self._process.exitcode,
            where=self.watch.where,
            reward=reward,
            log=self.log,
            memory=self._memory,
            limit=total_memory(),
        )
        return WorkerDiedError(message, reward=reward, loading=not self.watch.ready)

    def _kill(self) -> None:
        self._process.kill()
        self._process.join()

    def stop(self, *, grace_s: float) -> None:
        """Asks the worker to stop, kills it after the grace period, and removes what it left behind."""
        if self._process.is_alive():
            self.send(Stop())
            self._process.join(timeout=grace_s)
        if self._process.is_alive():
            self._kill()
        self.connection.close()
        self._scratch.remove()

    def __enter__(self) -> Self:
        self._interrupts.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop(grace_s=30 if kind is None else 2)
        finally:
            self._interrupts.end()


class WorkerDiedError(Exception):
    """A worker process ended without being asked to, or had to be ended; the message says how.

    Args:
        reward: The reward function that it was in: the user's to mend, so another worker would not help.
        loading: Whether it had not loaded everything yet.
    """

    def __init__(self, message: str, *, reward: str | None, loading: bool) -> None:
        super().__init__(message)
        self.reward, self.loading = reward, loading
