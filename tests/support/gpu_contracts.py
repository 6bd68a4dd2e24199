"""The GPU profile's wheels on a machine without a card: installed, imported, and held against the calls we make.

    make gpu-contracts

Says first how much it downloads. Then it installs gpu.lock into an environment of its own, tries to import each heavy
package there, and checks the contracts of tests/support/contracts.py against its source; it exits with 1 where one is
broken. Last it downloads the newest Unsloth, TRL and vLLM, unpacks them, and reports which contracts those would break,
which fails nothing. The folder goes when it is done.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path
from typing import Any

from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

from tests.support.contracts import broken

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "gpu.lock"
UV = Path(sys.executable).parent / "uv"
PACKAGES = frozenset({"unsloth", "trl", "vllm"})
IMPORTED = (
    "import torch", "import bitsandbytes", "from transformers import Trainer", "from peft import LoraConfig",
    "from trl import GRPOTrainer", "from vllm import LLM, SamplingParams", "import unsloth",
)  # fmt: skip
IMPORT_S = 300
UNPACKED = 3.5
"""Room that wheels take with what is unpacked of them, as a multiple of their own size."""


def main() -> None:
    """Runs all of it."""
    with tempfile.TemporaryDirectory(prefix="rank-sweep-gpu-") as folder:
        work = Path(folder)
        locked = wheels(LOCK, work)
        newest_file = work / "newest.in"
        newest_file.write_text("\n".join(sorted(PACKAGES)) + "\n")
        newest = wheels(newest_file, work)
        announce(locked, newest, work)
        packages = install(work)
        for line in IMPORTED:
            print(f"{line}: {try_import(work / 'env' / 'bin' / 'python', line)}", flush=True)
        failures = list(broken(lambda package: packages / package, PACKAGES))
        print("\n".join(failures) or "the locked packages keep every contract", flush=True)
        report_newest(newest, work, packages)
    sys.exit(1 if failures else 0)


def wheels(requirements: Path, work: Path) -> list[dict[str, Any]]:
    """The wheels that requirements come to on this machine, each with name, version and size in bytes."""
    file = work / f"pylock.{requirements.stem}.toml"
    command = [UV, "pip", "compile", requirements, "--no-deps", "--format", "pylock.toml", "--output-file", file]
    subprocess.run([*command, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    tags, found = {tag: rank for rank, tag in enumerate(sys_tags())}, []
    for package in tomllib.loads(file.read_text())["packages"]:
        fitting = [
            (min(tags[tag] for tag in own), wheel)
            for wheel in package.get("wheels", ())
            if (own := parse_wheel_filename(wheel["url"].rpartition("/")[2])[3] & tags.keys())
        ]
        chosen = min(fitting, key=lambda pair: pair[0])[1] if fitting else package.get("sdist", {})
        found.append({"name": package["name"], "version": package["version"], "size": chosen.get("size", 0)})
    return found


def announce(locked: list[dict[str, Any]], newest: list[dict[str, Any]], work: Path) -> None:
    """Says what will be downloaded.

    Raises:
        SystemExit: where there is no room for it.
    """
    size = sum(wheel["size"] for wheel in locked) + sum(wheel["size"] for wheel in newest)
    largest = sorted(locked, key=lambda wheel: -wheel["size"])[:5]
    told = ", ".join(f"{wheel['name']} {wheel['size'] / 1e6:,.0f} MB" for wheel in largest)
    print(f"{len(locked) + len(newest)} wheels, {size / 1e9:.1f} GB to download: {told}, ...", flush=True)
    free = shutil.disk_usage(work).free
    if free < UNPACKED * size:
        raise SystemExit(
            f"gpu-contracts: {free / 1e9:.1f} GB free in {work.parent}, and it takes {UNPACKED * size / 1e9:.1f}; "
            "TMPDIR names a folder with more room"
        )


def install(work: Path) -> Path:
    """Installs the lock into an environment of its own; its folder of packages."""
    environment = work / "env"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    began = time.monotonic()
    command = [UV, "pip", "install", "--quiet", "--no-deps", "--python", environment / "bin" / "python"]
    # A cache in the same folder goes with it, and its files are linked, not copied.
    subprocess.run([*command, "--cache-dir", work / "cache", "--requirement", LOCK], check=True)
    print(f"installed in {time.monotonic() - began:.0f} s", flush=True)
    [packages] = environment.glob("lib/python*/site-packages")
    return packages


def try_import(python: Path, line: str) -> str:
    """How long an import took, or what went wrong: some want a card."""
    began = time.monotonic()
    try:
        done = subprocess.run([python, "-c", line], capture_output=True, text=True, timeout=IMPORT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"not done after {IMPORT_S} s"
    if done.returncode == 0:
        return f"{time.monotonic() - began:.1f} s"
    said = done.stderr.strip().splitlines()
    return said[-1] if said else f"ended with exit code {done.returncode}"


def report_newest(newest: list[dict[str, Any]], work: Path, locked: Path) -> None:
    """Downloads the newest wheels without what they depend on, and says which contracts they break. Fails nothing."""
    for wheel in newest:
        name, title = wheel["name"], f"newest {wheel['name']} {wheel['version']}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        target = work / f"newest-{name}"
        done = subprocess.run(
            [*command, "--dest", target, f"{name}=={wheel['version']}"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"{title}: not downloaded: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
            continue
        [archive] = target.glob("*.whl")
        unpack(archive, target)
        # What a package builds on, such as TRL on Transformers, is that of the lock.
        lines = list(broken(lambda package, own=name, at=target: (at if package == own else locked) / package, {name}))
        print(f"{title}: " + ("; ".join(lines) or "keeps every contract"), flush=True)


def unpack(archive: Path, target: Path) -> None:
    """Unpacks a wheel's Python files: contracts read nothing else."""
    with zipfile.ZipFile(archive) as wheel:
        wheel.extractall(target, [name for name in wheel.namelist() if name.endswith(".py")])


if __name__ == "__main__":
    main()
