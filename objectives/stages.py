"""What a worker is doing, told from inside it, so that whoever watches can explain a death or end a hang."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Worker to supervisor: what it does from here on."""

    doing: str
    """In words that follow "while", as `importing Unsloth`; empty between stages."""
    reward: str | None = None
    """The reward function that is being called."""
    limit_s: float | None = None
    """How long that call may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialsStage:
    """Worker to supervisor: what happens to some of its trials from here on."""

    trials: tuple[int, ...]
    doing: str
    """`building`, `rolling out`, `training` or `scoring`."""


IDLE = Stage(doing="")

_current = IDLE
_listener: Callable[[Stage | TrialsStage], None] | None = None


def listen(listener: Callable[[Stage | TrialsStage], None] | None) -> None:
    """Makes this process tell its stages to a listener; a process without one tells nobody."""
    global _listener  # noqa: PLW0603 - one process is in one stage, whoever asks
    _listener = listener


def enter(stage: Stage) -> None:
    """Begins a stage, which lasts until the next one."""
    global _current  # noqa: PLW0603
    _current = stage
    if _listener is not None:
        _listener(stage)


def trials_are(doing: str, *trials: int) -> None:
    """Tells what happens to trials from here on."""
    if _listener is not None and trials:
        _listener(TrialsStage(trials=trials, doing=doing))


@contextmanager
def during(doing: str, *, reward: str | None = None, limit_s: float | None = None) -> Iterator[None]:
    """Is in a stage for as long as the context lasts, and then in the one before."""
    before = _current
    enter(Stage(doing=doing, reward=reward, limit_s=limit_s))
    try:
        yield
    finally:
        enter(before)
