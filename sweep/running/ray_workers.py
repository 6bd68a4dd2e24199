"""Workers on the machines of a Ray cluster, behind the same protocol as those of this one."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from objectives.settings.sections import WorkerSettings
from objectives.stages import Stage
from objectives.trial.messages import FromWorker, Ready, ToWorker
from sweep.running.interrupts import Deferred
from sweep.running.ray_cluster import Share, shares
from sweep.running.ray_host import POLL_S, Host, Place
from sweep.running.worker_process import WorkerDiedError

WAITING = Stage(doing="waiting for room on a machine of the cluster")
ROOM_S = 120.0
"""How long a worker waits for a machine with room."""
SILENCE_S = 60.0
"""How much later than it should a machine may answer, before it counts as dead."""
AGAIN = 3
"""How often a host is asked for anew that died before it ran: just after a death, Ray may choose the dead machine."""
RENEW_S = 20.0
"""Between two signs of life to each host."""
COUNT_S = 5.0
"""How long a count of the cluster's machines holds."""


@dataclass(slots=True)
class _Worker:
    host: Any
    """The actor's handle."""
    asked: Any
    """What it has been asked for last."""
    since: float
    place: Place | None = None
    """None until it runs."""
    attempts: int = 1
    ready: bool = False


class RayWorkers:
    """One worker per GPU of a cluster or, without any, per machine."""

    def __init__(self, settings: WorkerSettings, *, most: int | None, study_travels: bool, on_gpu: bool) -> None:
        """Starts none. This process has joined the cluster.

        Args:
            settings: What every trial of every worker shares.
            most: Workers, at most; None for as many as there is room for.
            study_travels: Whether the study file's folder is sent to machines.
            on_gpu: Whether workers need a GPU.

        Raises:
            ClusterError: where workers need a GPU and no machine has one.
        """
        self._settings, self._most, self._travels, self._on_gpu = settings, most, study_travels, on_gpu
        self._workers: dict[int, _Worker] = {}
        self._places: dict[int, Place] = {}
        self._inbox: deque[tuple[int, FromWorker | WorkerDiedError]] = deque()
        self._interrupts, self._left = Deferred(), threading.Event()
        self._share, self._counted = shares(on_gpu=on_gpu), time.monotonic()

    @property
    def count(self) -> int:
        """See `Workers`. Machines may join and leave."""
        if time.monotonic() - self._counted > COUNT_S:
            self._share, self._counted = shares(on_gpu=self._on_gpu), time.monotonic()
        return max(1, self._share.workers if self._most is None else min(self._most, self._share.workers))

    def start(self, k: int) -> None:
        """See `Workers`."""
        self._workers[k] = self._ask_for_host(k)
        self._inbox.append((k, WAITING))

    def _ask_for_host(self, k: int, *, attempts: int = 1) -> _Worker:
        import ray

        share: Share = self._share
        remote: Any = ray.remote(Host)
        host = remote.options(
            num_cpus=share.cpus,  # Ray gives a worker without any one OpenMP thread
            num_gpus=share.gpus,
            # Ray does nothing over by itself: the roster decides what is tried again.
            max_restarts=0,
            max_task_retries=0,
            # A call for messages waits for seconds: messages and signs of life have to get through meanwhile.
            max_concurrency=8,
            # By default Ray would rather pack workers onto few machines.
            scheduling_strategy="SPREAD",
        ).remote(self._settings, str(k), study_travels=self._travels)
        return _Worker(host=host, asked=host.begin.remote(), since=time.monotonic(), attempts=attempts)

    def receive(self, timeout_s: float) -> tuple[int, FromWorker | WorkerDiedError] | None:
        """See `Workers`."""
        import ray

        self._interrupts.check()
        if not self._inbox and self._workers:
            asked = {worker.asked: k for k, worker in self._workers.items()}
            ray.wait(list(asked), num_returns=1, timeout=timeout_s)
            # All that have answered: whoever waits here has not been silent, however long this process was away.
            answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=0)
            for reference in answered:
                self._take(asked[reference])
            self._bury_the_silent()
        return self._inbox.popleft() if self._inbox else None

    def _take(self, k: int) -> None:
        """Takes what a host has answered, and asks it for more."""
        import ray

        worker = self._workers[k]
        try:
            answer = ray.get(worker.asked)
        except ray.exceptions.RayError as error:
            if worker.place is None and worker.attempts < AGAIN:
                self._workers[k] = self._ask_for_host(k, attempts=worker.attempts + 1)
            else:
                where = worker.place.machine if worker.place else "the cluster"
                self._lost(
                    k,
                    WorkerDiedError(
                        f"the worker on {where} is gone, or its machine ({type(error).__name__})",
                        reward=None,
                        # Even if it was loading: a machine goes for reasons of its own, and another start is worth it.
                        loading=False,
                    ),
                )
            return
        said = [answer] if isinstance(answer, Place | WorkerDiedError) else answer
        worker.asked, worker.since = worker.host.receive.remote(), time.monotonic()
        for message in said:
            match message:
                case Place():
                    worker.place = self._places[k] = message
                case WorkerDiedError(reward=reward, loading=loading, killed=killed):
                    machine = f" (on {worker.place.machine})" if worker.place else ""
                    self._lost(k, WorkerDiedError(f"{message}{machine}", reward, loading, killed))
                case _:
                    worker.ready |= isinstance(message, Ready)
                    self._inbox.append((k, message))

    def _bury_the_silent(self) -> None:
        for k, worker in list(self._workers.items()):
            silent_s = time.monotonic() - worker.since
            if worker.place is None and silent_s > ROOM_S:
                told = f"no machine of the cluster had room for a worker within {ROOM_S:g} s"
                self._lost(k, WorkerDiedError(told, reward=None, loading=True))
            elif worker.place is not None and silent_s > POLL_S + SILENCE_S:
                self._lost(
                    k,
                    WorkerDiedError(
                        f"{worker.place.machine} has not answered for {silent_s:.0f} s", reward=None, loading=False
                    ),
                )

    def _lost(self, k: int, death: WorkerDiedError) -> None:
        """Worker k is dead, or counts as dead: what its host may still say nobody will ask for."""
        import ray

        ray.kill(self._workers.pop(k).host)
        self._inbox.append((k, death))

    def send(self, k: int, message: ToWorker) -> None:
        """See `Workers`."""
        if k in self._workers:
            self._workers[k].host.send.remote(message)

    def stop(self, k: int) -> None:
        """See `Workers`."""
        self._stop([k], grace_s=2)

    def _stop(self, numbers: list[int], *, grace_s: float) -> None:
        import ray

        workers = [self._workers.pop(k) for k in numbers if k in self._workers]
        self._inbox = deque((k, said) for k, said in self._inbox if k not in numbers)
        ends = [worker.host.stop.remote(grace_s) for worker in workers if worker.place is not None]
        if ends:
            ray.wait(ends, num_returns=len(ends), timeout=grace_s + 5)
        for worker in workers:
            ray.kill(worker.host)

    def log(self, k: int) -> str:
        """See `Workers`."""
        place = self._places.get(k)
        return f"{place.log} on {place.machine}" if place else "none yet"

    def identity(self, k: int) -> str | None:
        """See `Workers`."""
        place = self._places.get(k)
        return f"{place.machine}:{place.pid}" if place else None

    def is_ready(self, k: int) -> bool:
        """See `Workers`."""
        return k in self._workers and self._workers[k].ready

    def __enter__(self) -> Self:
        self._interrupts.begin()
        threading.Thread(target=self._renew_leases, daemon=True).start()
        return self

    def _renew_leases(self) -> None:
        """Keeps hosts alive while this process waits for a storage: to be busy is not to be gone."""
        while not self._left.wait(RENEW_S):
            # A copy: the main thread starts and buries workers meanwhile.
            for worker in list(self._workers.values()):
                if worker.place is not None:
                    worker.host.renew.remote()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops all at once, and leaves the cluster."""
        import ray

        self._left.set()
        try:
            self._stop(list(self._workers), grace_s=30 if kind is None else 5)
            ray.shutdown()
        finally:
            self._interrupts.end()
