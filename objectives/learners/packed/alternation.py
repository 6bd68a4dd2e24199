"""One half of a pack's trials rolls out while the other half trains."""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from objectives.errors import EngineError
from objectives.learners.packed.rollouts import Sampler, Samples
from objectives.learners.packed.trial_run import TrialRun, shared_time

SWITCH_INTERVAL_S = 1e-4
"""How soon a thread gives up Python's lock to one that waits for it. Each operation of torch's lets go of the lock, and
with Python's own 5 ms would often wait that long to have it back: 6 % of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rollout under way, or about to be."""

    runs: Sequence[TrialRun]
    samples: Callable[[], list[Samples | EngineError]]
    """Waits for the samples, one for each run, and raises what `Sampler.sample` does."""


class Rollouts:
    """The rollouts of a pack's trials, in turn. Those of one half go on in a thread while the other half trains.

    Trials are independent: a rollout that overlaps with the training of others is no staler for it. The engine does
    one thing at a time, so whoever else wants it has to `settle` first.
    """

    def __init__(self, sampler: Sampler, *, halves: Sequence[range]) -> None:
        """Sets up.

        Args:
            sampler: Asks the engine.
            halves: The slots that roll out together. If they are all in one, nothing trains meanwhile, and rollouts
                take place in the caller's thread.
        """
        self.halves = halves
        self._sampler = sampler
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rollout") if len(halves) > 1 else None
        self._waiting: deque[Rollout] = deque()

    def __enter__(self) -> Self:
        self._interval_s = sys.getswitchinterval()
        if self._thread is not None:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leaves once the engine is idle: until then, a rollout may read adapters."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        sys.setswitchinterval(self._interval_s)

    def start(self, runs: Sequence[TrialRun]) -> None:
        """Has the engine roll out for these trials, after those that it has been asked for before."""
        sample = functools.partial(self._sampler.sample, [self._sampler.request(run) for run in runs])
        # Without a thread nothing is sampled yet: whoever asks for the samples waits for the engine himself.
        samples = sample if self._thread is None else self._thread.submit(sample).result
        self._waiting.append(Rollout(runs=runs, samples=samples))

    def asked_for(self, slots: range) -> bool:
        """Whether a rollout for trials in these slots is under way."""
        return any(run.slot in slots for rollout in self._waiting for run in rollout.runs)

    def next(self) -> Rollout | None:
        """The one that was started first, and is from here on the caller's; None where none is under way."""
        return self._waiting.popleft() if self._waiting else None

    def settle(self) -> None:
        """Waits until the engine is idle; the trials that it is busy for are charged the time."""
        if self._thread is not None:
            with shared_time([run for rollout in self._waiting for run in rollout.runs], "rollout"):
                # The pool has one thread: when an empty job is done, so is all that was asked for before it.
                self._thread.submit(lambda: None).result()
