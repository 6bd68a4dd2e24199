"""Running a part in a child process: within its time, whatever it prints, and however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.part import MARKER

RANK = re.compile(r"^\[rank\d+\]:\s*")
"""What torch puts before the lines of a traceback once its process group is there."""
ERROR = re.compile(r"[\w.]*(Error|Exception|Interrupt|Exit)\b")
"""A traceback's last line. What libraries print while they are torn down comes after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing to measure: what `benchmarks.gpu.part` is called with."""

    key: str
    """What results are filed under."""
    name: str
    order: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A part's result, or the line that says why there is none."""

    seconds: float
    result: dict[str, Any] | None = None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """As results are kept."""
        kept: dict[str, Any] = {"seconds": self.seconds}
        return kept | ({"error": self.error} if self.result is None else {"result": self.result})


def run_part(part: Part, *, limit_s: float, log: Path) -> Outcome:
    """Runs one part.

    Args:
        part: Which.
        limit_s: Seconds after which it is ended, with all that it has started.
        log: What it prints is added to this file.
    """
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.gpu.part", part.name, json.dumps(part.order)]
    # A group of its own: engines start processes, which would keep the GPU's memory.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
    ) as child:
        try:
            printed, complaints = child.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            _end(child)
            printed, complaints = child.communicate()
            complaints += f"\nTimeoutError: not done after {limit_s:.0f} s"
        except BaseException:
            _end(child)
            raise
    seconds = time.monotonic() - began
    with log.open("a", encoding="utf-8") as file:
        file.write(f"=== {part.key}, {seconds:.0f} s\n{printed}\n--- stderr\n{complaints}\n")
    found = [line.removeprefix(MARKER) for line in printed.splitlines() if line.startswith(MARKER)]
    # Some engines fail while they are torn down, after all is measured.
    if found:
        return Outcome(seconds=seconds, result=json.loads(found[-1]))
    return Outcome(seconds=seconds, error=last_words(complaints) or f"ended with exit code {child.returncode}")


def last_words(complaints: str) -> str:
    """The line of stderr that says what went wrong: the last that names an error, else the last there is."""
    lines = [RANK.sub("", line).strip() for line in complaints.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if ERROR.match(line)), lines[-1] if lines else "")


def _end(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
