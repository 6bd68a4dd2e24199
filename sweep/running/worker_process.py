"""The supervisor's handle on a worker process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self, cast

from objectives.crash_log import log_crashes
from objectives.machine import memory_reached, total_memory
from objectives.settings.sections import WorkerSettings
from objectives.trial.messages import FromWorker, Stop, ToWorker, Train, TryReward
from sweep.running.interrupts import Deferred, held_back, let_through
from sweep.running.scratch import Scratch
from sweep.running.worker_death import explain_death
from sweep.running.worker_watch import WorkerWatch

QUIET_TRACKER = "ignore::UserWarning:multiprocessing.resource_tracker"
"""multiprocessing's tracker clears away the semaphores of a killed worker, and would say so in three lines."""

TRAIN = Train()


def _run(environment: Mapping[str, str], log: Path, *arguments: object) -> None:
    """What the spawned process runs. Imported there, so that this process stays light."""
    let_through()
    os.environ.update(environment)  # libraries read it as they are imported
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

    def __init__(
        self,
        settings: WorkerSettings,
        log: Path,
        *,
        first: Train | TryReward = TRAIN,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Spawns it.

        Args:
            settings: What every trial of this worker shares.
            log: Where output goes that belongs to no trial.
            first: What it is for.
            environment: What its environment holds besides this process's.

        Raises:
            StorageError: where there is no place for its temporary files.
            KeyboardInterrupt: where it came while the process was being started; none is left then.
        """
        if QUIET_TRACKER not in sys.warnoptions:
            # multiprocessing starts its tracker with this process's own warning options.
            sys.warnoptions.append(QUIET_TRACKER)
        # Not fork: it would copy locks that another thread, as the one that draws progress, holds just then.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.log = log
        self.watch = WorkerWatch()
        self._interrupts = Deferred()
        self._memory: int | None = None
        self._scratch = Scratch(near=log.parent)
        self._process = context.Process(
            target=_run,
            args=(environment or {}, log, theirs, settings, self._scratch.folders),
            name="rank-sweep-worker",
            # A daemon may not start processes, and rewards do.
            daemon=False,
        )
        try:
            with held_back(), _no_main_module():
                self._process.start()
            # Were it open here as well, a worker that dies would never close the pipe.
            theirs.close()
            self.send(first)
        except BaseException:
            # A Ctrl-C that was held back is raised here, before anybody has this object to stop it by.
            if self._process.pid is not None:
                self._kill()
            self._scratch.remove()
            raise

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

    @property
    def sources(self) -> tuple[Connection[Any, Any], int]:
        """What to wait for: a message to read, and the worker's end."""
        return self.connection, self._process.sentinel

    def listen(self, timeout_s: float) -> None:
        """Waits until there may be something to `poll`."""
        wait(self.sources, timeout=timeout_s)

    def poll(self) -> FromWorker | None:
        """The next message, or None where there is none now.

        Raises:
            WorkerDiedError: where the worker is dead and has nothing more to say, or hangs in a reward function.
        """
        # While it lives: of a process that has ended, /proc does not say it any more.
        if self.pid is not None:
            self._memory = memory_reached(self.pid) or self._memory
        try:
            if self.connection.poll():
                message = cast(FromWorker, self.connection.recv())
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

    def wait(self) -> FromWorker:
        """The next message, however long it takes.

        Raises:
            WorkerDiedError: as `poll` does.
            KeyboardInterrupt: where Ctrl-C or SIGTERM has come since the worker was entered.
        """
        while True:
            self._interrupts.check()
            self.listen(timeout_s=1.0)
            if (message := self.poll()) is not None:
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
        killed = self._process.exitcode == -signal.SIGKILL
        return WorkerDiedError(message, reward=reward, loading=not self.watch.ready, killed=killed)

    def _kill(self) -> None:
        self._process.kill()
        self._process.join()

    def stop(self, *, grace_s: float) -> None:
        """Asks the worker to stop, kills it after the grace period, and removes what it left behind."""
        if grace_s:
            self.ask_to_stop()
        self.end(deadline=time.monotonic() + grace_s)

    def ask_to_stop(self) -> None:
        """Lets the worker end by itself, once it has written down what is worth keeping."""
        if self._process.is_alive():
            self.send(Stop())

    def end(self, *, deadline: float) -> None:
        """Waits for the worker's end until then, kills it after that, and removes what it left behind.

        What it still says is read: with its pipe full it would wait for a reader.
        """
        with suppress(EOFError, OSError):
            while (left_s := deadline - time.monotonic()) > 0 and self._process.is_alive():
                self.listen(left_s)
                while self.connection.poll():
                    self.connection.recv()
        self._process.join(timeout=max(0.0, deadline - time.monotonic()))
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
        killed: Whether by SIGKILL: that may have been anybody, or the system for want of memory.
    """

    def __init__(self, message: str, reward: str | None, loading: bool, killed: bool = False) -> None:
        super().__init__(
            message, reward, loading, killed
        )  # what it is made of anew where it travels to another machine
        self.reward, self.loading, self.killed = reward, loading, killed

    def __str__(self) -> str:
        return str(self.args[0])
