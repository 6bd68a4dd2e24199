"""Has a time limit of its own for each completion, and leaves its handler behind."""

import signal
import time


class LateError(Exception):
    pass


def ring(*_):
    raise LateError


def reward(completions, **columns):
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        time.sleep(5)
    except LateError:
        signal.setitimer(signal.ITIMER_REAL, 0.02)  # rings again when it is long gone
    return [float(len(completion)) for completion in completions]


def weighs(row, completion):
    return float(len(completion))
