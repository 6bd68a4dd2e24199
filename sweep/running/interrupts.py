"""Ctrl-C and SIGTERM, held back while a process is being started: cut short, it would print a traceback of its own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

HELD = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_back() -> Iterator[None]:
    """Lets both wait until the block has ended. Processes that it starts begin with both blocked: see `let_through`."""
    came: list[int] = []
    handlers = {}
    # A blocked signal goes to another thread, if there is one, and its handler still runs in this one.
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in HELD}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if came:
        signal.raise_signal(came[0])


def let_through() -> None:
    """For a process that was started so: SIGTERM ends it. Ctrl-C does not.

    In a terminal Ctrl-C reaches every process: to stop this one is for whoever started it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
