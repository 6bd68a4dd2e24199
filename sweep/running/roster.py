"""Which of a study's workers are at work, which have room for trials, and how often each has died."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from objectives.trial.messages import HeldOutScore, Ready
from sweep.running.worker_process import WorkerDiedError

MAX_DEATHS = 3
"""Deaths of one worker in a row, with none of its trials getting further between, after which it is done without."""
NOISE = 5.0
"""Standard errors by which two workers' scores of the base policy may differ: seeds are the same, rounding is not."""


class Roster:
    """The workers of a study, numbered from 0."""

    def __init__(self, count: int, *, slots: int) -> None:
        """Begins with worker 0 at work, and no other.

        Args:
            count: How many there may be.
            slots: Trials that each runs at once.
        """
        self.free: Counter[int] = Counter()
        """Slots that each worker has offered and that hold no trial."""
        self.deaths: Counter[int] = Counter()
        """Of each worker, since one of its trials last finished, or went on above where it had gone on before."""
        self._count, self._slots, self._seen = count, slots, count
        self._at_work = {0}
        self._given_up: set[int] = set()
        self._first: Ready | None = None

    def by(self, k: int, text: str) -> str:
        """What worker k has to say, with its number where there are several."""
        return text if self._count == 1 else f"worker {k}: {text}"

    def wanted(self, *, trials: int, count: int) -> Iterator[int]:
        """Those that are to be started now, for this number of trials. They count as at work from here on.

        Args:
            trials: That are left to run, or running.
            count: How many workers there may be now; more than before, where a machine has joined.
        """
        if count > self._seen:  # a machine has joined, or is back
            self._given_up.clear()
        self._count, self._seen = max(self._count, count), count
        enough = min(count, math.ceil(trials / self._slots))
        for k in range(enough):
            if k not in self._at_work and k not in self._given_up:
                self._at_work.add(k)
                yield k

    def is_at_work(self, k: int) -> bool:
        """Whether anybody should listen to worker k."""
        return k in self._at_work

    def with_free_slots(self) -> list[int]:
        """Workers that have room for a trial, the emptiest first, so that few trials are spread over all."""
        return sorted((k for k, free in self.free.items() if free), key=lambda k: (-self.free[k], k))

    def died(self, k: int) -> None:
        """Worker k has died, and its slots with it."""
        self.deaths[k] += 1
        self.free[k] = 0

    def is_worth_a_start(self, k: int, death: WorkerDiedError) -> bool:
        """Whether another is to be started in the place of worker k.

        Not where it died while it loaded, nor in a reward of the user's: others would too. But whoever is killed may
        have been killed by anybody, wherever it was: that takes a second time.
        """
        if death.reward is not None and not (death.killed and self.deaths[k] == 1):
            return False
        return not death.loading and self.deaths[k] < MAX_DEATHS

    def has_others(self, k: int) -> bool:
        """Whether workers besides k are at work."""
        return bool(self._at_work - {k})

    def give_up(self, k: int) -> int:
        """Does without worker k; how many are left."""
        self.free[k] = 0
        self._at_work.discard(k)
        self._given_up.add(k)
        return len(self._at_work)

    def unlike_the_first(self, ready: Ready) -> str:
        """How a worker differs from the first in what trials depend on; empty where it does not."""
        if self._first is None:
            self._first = ready
            return ""
        ours, theirs = self._first.facts.get("versions", {}), ready.facts.get("versions", {})
        for package in sorted(ours.keys() | theirs.keys()):
            if ours.get(package) != theirs.get(package):
                return f"{package} is {theirs.get(package, 'absent')} there, and {ours.get(package, 'absent')} here"
        if not _same(self._first.baseline, ready.baseline):
            return (
                f"the base policy scores {ready.baseline.sampled:.4g} there, and {self._first.baseline.sampled:.4g} "
                "here, with the same seed: more than noise"
            )
        return ""


def _same(one: HeldOutScore, other: HeldOutScore) -> bool:
    # The standard error of a difference between two means over as many prompts.
    error = (one.spread or 0.0) * math.sqrt(2 / max(1, one.prompts))
    return math.isclose(one.sampled, other.sampled, rel_tol=1e-6, abs_tol=max(NOISE * error, 1e-9))
