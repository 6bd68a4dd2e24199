"""Several scripted workers that share one supervisor, and time as they have it pass."""

import time
from dataclasses import replace

from sweep.running.worker_process import WorkerDiedError
from tests.support.scripted_worker import ScriptedWorker


class ScriptedCrew:
    """N scripted workers, which are heard in turn."""

    def __init__(self, reward, *, count, slots=1, step_s=0.0, facts=None, baseline_shift=None):
        """Sets up.

        Args:
            reward: As a scripted worker takes it.
            count: How many there may be.
            slots: Of each.
            step_s: Seconds that a round of steps takes each of them; they all work at the same time.
            facts: What each says of itself, by its number.
            baseline_shift: What each adds to the base policy's score, by its number.
        """
        self.count, self._step_s = count, step_s
        self.members = [ScriptedWorker(reward, slots=slots) for _ in range(count)]
        self._facts, self._shift = facts or {}, baseline_shift or {}
        self.alive, self.started, self.deaths, self._next, self._due = set(), [], [], 0, {}

    def __call__(self, settings, log_folder):
        for member in self.members:
            member(settings, log_folder)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def start(self, k):
        assert k not in self.alive
        self.members[k].start(k)
        ready = self.members[k]._out[0]
        score = replace(ready.baseline, sampled=ready.baseline.sampled + self._shift.get(k, 0.0))
        self.members[k]._out[0] = replace(ready, baseline=score, facts=self._facts.get(k, {}))
        self.members[k]._specs.clear()
        self.alive.add(k)
        self.started.append(k)

    def kill(self, k, **how):
        """Worker k dies, as the next that is heard of it."""
        self.deaths.append((k, WorkerDiedError("it died", **{"reward": None, "loading": False} | how)))

    def receive(self, timeout_s):
        if self.deaths:
            k, death = self.deaths.pop(0)
            self.alive.discard(k)
            return k, death
        for _ in range(self.count):
            k, self._next = self._next, (self._next + 1) % self.count
            if k in self.alive and (heard := self._hear(k)) is not None:
                return heard
        time.sleep(0.001)
        return None

    def _hear(self, k):
        member = self.members[k]
        if not member._out:
            if time.monotonic() < self._due.get(k, 0.0):
                return None
            self._due[k] = time.monotonic() + self._step_s
        said = member.receive(0.0)
        return None if said is None else (k, said[1])

    def send(self, k, message):
        self.members[k].send(k, message)

    def stop(self, k):
        self.alive.discard(k)

    def log(self, k):
        return f"worker-{k}.log"

    def identity(self, k):
        return 100 + k

    def is_ready(self, k):
        return k in self.alive
