"""Why a worker died, in one line: what it was doing, what ended it, where, and what to do."""

from __future__ import annotations

import re
import signal
from pathlib import Path

SIGNALS: dict[int, str] = {
    signal.SIGILL: "this processor lacks an instruction that a package was built for; run `sweep doctor`",
    signal.SIGSEGV: "native code read memory that is not its own; run `sweep doctor`, which tries each package alone",
    signal.SIGBUS: "a file in memory could not grow, as where shared memory is full; run `sweep doctor`",
    signal.SIGABRT: "native code gave up; its last words are in the log",
    signal.SIGFPE: "native code divided by zero",
    signal.SIGTERM: "somebody asked it to end",
}
"""What a signal means, and what to do."""

LESS_MEMORY = "where memory ran out, a smaller learner.pack_size, micro_batch_size or max_seq_length takes less"

RUNNING = re.compile(r'^Current thread [^\n]*\n  File "([^"]+)", line (\d+) in (\S+)', re.MULTILINE)
"""The innermost frame of the thread that was running, as faulthandler writes it."""


def explain_death(
    exit_code: int | None, *, where: str, reward: str | None, log: Path, memory: int | None, limit: int | None
) -> str:
    """One line on a worker's death.

    Args:
        exit_code: As `multiprocessing` has it: below zero for a signal.
        where: What the worker was doing, as `while importing Unsloth`.
        reward: The reward function that was being called.
        log: The worker's log, in which faulthandler may have left a traceback.
        memory: Bytes that it had held at most.
        limit: Bytes that it could have.
    """
    frame = last_frame(log)
    place = f"{where} ({frame})" if frame else where
    if exit_code is None or exit_code >= 0:
        caller = f"the reward {reward}" if reward else "native code, or code of yours,"
        return f"the worker ended with exit code {exit_code} {place}: {caller} called os._exit or the like"
    number = -exit_code
    meaning = _memory(memory, limit) if number == signal.SIGKILL else SIGNALS.get(number, "see the log")
    return f"the worker was killed by {_signal_name(number)} {place}: {meaning}"


def last_frame(log: Path) -> str:
    """Where the newest crash in a log happened, as `package/file.py:10, in name`; empty where none was written down."""
    try:
        return last_frame_of(log.read_text(errors="replace"))
    except OSError:
        return ""


def last_frame_of(text: str) -> str:
    """The same, for a log's text."""
    # Logs are appended to, so that one may hold crashes from before.
    _, crashed, dump = text.rpartition("Fatal Python error:")
    found = RUNNING.search(dump) if crashed else None
    if found is None:
        return ""
    # A package's path as it is installed anywhere, without the folder of this machine.
    path = found[1].rpartition("site-packages/")[2] if "site-packages/" in found[1] else Path(found[1]).name
    return f"{path}:{found[2]}, in {found[3]}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _memory(reached: int | None, limit: int | None) -> str:
    held = "" if reached is None else f" It had reached {reached / 2**30:.1f} GiB"
    whole = "" if limit is None or not held else f" of the {limit / 2**30:.1f} GiB there are"
    return f"somebody killed it, or the system ran out of memory.{held}{whole}{held and '; '}{LESS_MEMORY}"
