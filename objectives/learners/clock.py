"""Where a trial's time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Adds up seconds by what they were spent on."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def section(self, name: str) -> _Section:
        """A context whose time is added to `name`."""
        return _Section(self, name)


class _Section:
    def __init__(self, clock: Clock, name: str) -> None:
        self._clock, self._name = clock, name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._clock.seconds[self._name] += time.perf_counter() - self._start
