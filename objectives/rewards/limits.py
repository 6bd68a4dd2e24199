"""A time limit for a call, which leaves SIGALRM to whoever is called: libraries of rewards set alarms of their own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXPIRED = signal.SIGRTMIN + 3
"""The signal that interrupts a call. No library is known to use it."""


class TimeLimitError(BaseException):
    """Not an Exception, so that a reward that catches everything does not catch this."""


class _Limit:
    """Whether a call is being timed. The signal's handler stays for good: one that comes late then does nothing."""

    active = False
    installed = False


def _expire(*_: object) -> None:
    if _Limit.active:
        _Limit.active = False
        raise TimeLimitError


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises in the middle of whatever runs when the time is up. Only a main thread can be interrupted so.

    An alarm that is still set at the end is cancelled, and its handler put back: it would go off in the middle of
    training.

    Raises:
        TimeLimitError: when the time is up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if not _Limit.installed:
        signal.signal(EXPIRED, _expire)
        _Limit.installed = True
    on_alarm = signal.getsignal(signal.SIGALRM)
    timer = threading.Timer(seconds, signal.pthread_kill, (threading.main_thread().ident, EXPIRED))
    timer.daemon = True
    _Limit.active = True
    timer.start()
    try:
        yield
    finally:
        _Limit.active = False
        timer.cancel()
        signal.setitimer(signal.ITIMER_REAL, 0)
        # None stands for a handler that was not set from Python, and cannot be put back.
        if on_alarm is not None and signal.getsignal(signal.SIGALRM) is not on_alarm:
            signal.signal(signal.SIGALRM, on_alarm)
