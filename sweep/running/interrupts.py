"""Ctrl-C and SIGTERM, where they can do no harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

HELD = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_back() -> Iterator[None]:
    """Lets both wait until the block has ended: a process whose start is cut short prints a traceback of its own.

    Processes that are started in it begin with both blocked: see `let_through`.
    """
    came: list[int] = []
    # A blocked signal goes to another thread, if there is one, and its handler still runs in this one.
    handlers = _handled_by(lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _put_back(handlers)
    if came:
        signal.raise_signal(came[0])


def let_through() -> None:
    """For a process that was started so: SIGTERM ends it. Ctrl-C does not.

    In a terminal Ctrl-C reaches every process: to stop this one is for whoever started it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


def _handled_by(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Has both handled so, and gives back by what before; no thread but the main one may, and gets nothing."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in HELD}


def _put_back(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        # None stands for a handler that was not set from Python, and cannot be handed back.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


class Deferred:
    """Ctrl-C and SIGTERM as a question that is asked where it is safe to stop.

    Raised wherever the program happens to be, KeyboardInterrupt can be lost: Python drops what is raised while it
    collects garbage, and the study would go on. A second signal is raised at once all the same.
    """

    def __init__(self) -> None:
        self._came: list[int] = []
        self._handlers: dict[int, Any] = {}

    def begin(self) -> None:
        """From here on, the first signal is only noted. Other threads than the main one never get any."""
        self._handlers = _handled_by(self._note)

    def check(self) -> None:
        """Stops, where a signal has come.

        Raises:
            KeyboardInterrupt: if one has.
        """
        if self._came:
            self._came.clear()
            raise KeyboardInterrupt

    def end(self) -> None:
        """Signals are again what they were; one that has come and stopped nothing is passed on."""
        _put_back(self._handlers)
        self._handlers = {}
        if self._came:
            signal.raise_signal(self._came.pop(0))

    def _note(self, number: int, frame: object) -> None:
        self._came.append(number)
        if len(self._came) > 1:
            raise KeyboardInterrupt
