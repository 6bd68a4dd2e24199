"""Whether the installed packages are the locked ones, fit this machine, and can be imported."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement

from sweep.doctor.check import Check, fault, ok, warning
from sweep.running.worker_death import SIGNALS, last_frame_of

LOCK = Path(__file__).parents[2] / "requirements" / "cpu.lock"
SETUP = "`make setup` installs what is locked"
HEAVY = {
    "torch": "import torch; torch.ones(8, 8) @ torch.ones(8, 8)",
    "bitsandbytes": "import bitsandbytes",
    "Unsloth": "import objectives.policies.unsloth",
    "vLLM": "import objectives.engines.vllm",
    "TRL": "import objectives.policies.unsloth, objectives.learners.trl",
}
"""What a worker imports, each to be tried in a process of its own, in the order in which a worker does."""
IMPORT_S = 180
EXTRAS = {"dashboard": "optuna_dashboard", "notebook": "nbclient", "png": "kaleido", "reasoning-gym": "reasoning_gym"}
"""A module of each extra."""


def version_checks() -> Iterator[Check]:
    """Compares versions, without importing anything."""
    yield _locked_versions(LOCK)
    yield _extras()


def import_checks() -> Iterator[Check]:
    """Imports each heavy package in a process of its own, so that a crash is a line."""
    if importlib.util.find_spec("torch") is None:
        yield warning("imports", "no torch here", f"plan, show, report and dashboard work; a study needs more: {SETUP}")
        return
    for name, code in HEAVY.items():
        yield _import(name, code)


def torch_cuda_build() -> str | None:
    """The CUDA version that torch was built for, read from its files; None for a CPU build, or without torch."""
    with suppress(PackageNotFoundError, OSError):
        source = Path(str(distribution("torch").locate_file("torch/version.py"))).read_text(encoding="utf-8")
        found = re.search(r"""^cuda(?::[^=]+)?=\s*['"]([^'"]+)['"]""", source, re.MULTILINE)
        return found[1] if found else None
    return None


def _locked_versions(lock: Path) -> Check:
    if not lock.is_file():
        return ok("versions", f"rank-sweep {version('rank-sweep')}, installed without its lock file")
    absent, other = [], []
    locked = _locked_here(lock)
    for wanted in locked:
        try:
            here = version(wanted.name)
        except PackageNotFoundError:
            absent.append(wanted.name)
        else:
            if not wanted.specifier.contains(here, prereleases=True):
                other.append(f"{wanted.name} {here} instead of {wanted.specifier}".replace("==", ""))
    if absent:
        return fault("versions", f"{len(absent)} of {len(locked)} locked packages are absent: {_some(absent)}", SETUP)
    if other:
        return warning(
            "versions", f"{len(other)} of {len(locked)} packages differ from the lock: {_some(other)}", SETUP
        )
    return ok("versions", f"all {len(locked)} packages as locked")


def _locked_here(lock: Path) -> list[Requirement]:
    """The lock's requirements that apply to this Python and system."""
    lines = [line.partition("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines()]
    found = [Requirement(line) for line in lines if line]
    return [each for each in found if each.marker is None or each.marker.evaluate()]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _extras() -> Check:
    absent = [extra for extra, module in EXTRAS.items() if importlib.util.find_spec(module) is None]
    if absent:
        return warning(
            "extras", f"without {', '.join(absent)}", f"pip install 'rank-sweep[{','.join(absent)}]' brings them"
        )
    return ok("extras", ", ".join(EXTRAS))


def _import(name: str, code: str) -> Check:
    began = time.monotonic()
    try:
        child = subprocess.run(
            # A crash in native code then leaves the frame in which it happened.
            [sys.executable, "-X", "faulthandler", "-c", code],
            capture_output=True,
            text=True,
            timeout=IMPORT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return fault(f"import {name}", f"not done after {IMPORT_S} s", "see what else this machine is doing")
    if child.returncode == 0:
        return ok(f"import {name}", f"{time.monotonic() - began:.1f} s")
    if child.returncode < 0:
        frame = last_frame_of(child.stderr)
        cause = SIGNALS.get(-child.returncode, f"signal {-child.returncode}")
        # Its advice is to run `sweep doctor`, which whoever reads this has done.
        return fault(
            f"import {name}", f"the process died{frame and f' ({frame})'}", cause.replace("; run `sweep doctor`", "")
        )
    lines = [line for line in child.stderr.strip().splitlines() if line.strip()]
    return fault(f"import {name}", lines[-1] if lines else f"exit code {child.returncode}", SETUP)
