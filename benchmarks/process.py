"""A measurement in a process of its own, which has loaded nothing before."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def in_a_process(module: str, *arguments: str) -> Any:
    """Runs a module as a command in a fresh process; the JSON value that it prints last.

    Raises:
        SystemExit: where it fails, with what it printed to stderr.
    """
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
