"""Says which locked packages have known vulnerabilities, by what pip-audit is told of them.

    .venv/bin/python requirements/audit.py [LOCK [PIP-AUDIT'S OPTIONS]]

Exits with 1 where there are any. Where the service does not answer, or knows none of the packages, as a mirror of PyPI
does, it says so and exits with 0: pip-audit alone then fails, or finds nothing wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
AUDIT_S = 300


def main(lock: Path, options: list[str]) -> int:
    """Prints what is known; the exit code."""
    if not lock.is_file():
        print(f"audit: no lock at {lock}", file=sys.stderr)
        return 2
    # The lock is all there is: nothing is resolved, and nothing installed.
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--no-deps", "--disable-pip"]
    try:
        done = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off", *options],
            capture_output=True,
            text=True,
            timeout=AUDIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _not_audited(f"the service was not done after {AUDIT_S} s")
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return _not_audited(f"pip-audit could not ask its service: {said[-1]}")
    known = [package for package in packages if "skip_reason" not in package]
    if not known:
        return _not_audited(f"the service knows none of {len(packages)} packages")
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    for line in (faults := list(_faults(known))):
        print(line)
    print(f"audit: {len(known)} packages looked up, {len(faults)} vulnerabilities known")
    if unknown:
        print(f"audit: unknown to the service: {', '.join(unknown)}")
    return 1 if faults else 0


def _faults(packages: list[dict[str, Any]]) -> Iterator[str]:
    for package in packages:
        for fault in package["vulns"]:
            mended = ", ".join(fault["fix_versions"]) or "no version yet"
            yield f"audit: {package['name']} {package['version']}: {fault['id']}; mended in {mended}"


def _not_audited(why: str) -> int:
    print(f"audit: not done: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "cpu.lock", sys.argv[2:]))
