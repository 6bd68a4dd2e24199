"""Python's frames in a log when native code crashes."""

from __future__ import annotations

import faulthandler
from pathlib import Path


def log_crashes(log: Path) -> None:
    """Makes a crash in native code, in whichever import or call, leave Python's frames in the log.

    To be asked for again once everything is loaded: tvm_ffi, which vLLM 0.32 imports, puts a handler of its own there.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    faulthandler.disable()  # while it is on, enabling it again would leave the other's handler in place
    # Never closed: a crash is written to its descriptor, when nothing can be opened any more.
    faulthandler.enable(log.open("a"))
