"""What the machine is like. Needs the standard library alone: `make` asks before anything is installed.

python3 -m sweep.doctor.machine .venv
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from objectives.machine import (
    available_memory,
    can_run_programs,
    cores,
    has_native_bfloat16,
    memory_limit,
    processor_flags,
    processor_name,
    total_memory,
)
from sweep.doctor.check import Check, Status, fault, ok, warning

GIB = 2**30
OLDEST, NEWEST = (3, 11), (3, 13)
"""Versions of Python that the CPU lock serves."""
AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
"""What a processor must have for vLLM's AVX-512 kernels, as torch 2.13 decides it."""
OLDEST_GLIBC = (2, 28)
LIBRARIES = {
    "libstdc++.so.6": "apt install libstdc++6, or dnf install libstdc++",
    "libnuma.so.1": "apt install libnuma1, or dnf install numactl-libs",
}
"""Shared libraries that the kernels of vLLM 0.32 load from the system."""
SETUP_BYTES = int(5.5 * GIB)
"""What a set-up takes while it runs: the environment itself, and downloads."""
MEMORY_BYTES = 4 * GIB
"""What a worker of the shipped study takes, with room for the rest of the system."""


def machine_checks(environment: Path) -> Iterator[Check]:
    """Looks at everything that any study needs.

    Args:
        environment: The virtual environment, there or not yet.
    """
    yield _python()
    yield _system()
    if _is_x86_linux():
        yield _processor()
        yield _libraries()
    yield _cores()
    yield _memory()
    yield _shared_memory()
    yield _disk(environment)


def _python() -> Check:
    here = platform.python_version()
    allowed = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    if sys.version_info[:2] < OLDEST:
        return fault("Python", here, f"install Python {allowed}; make PYTHON=/path/to/python3.11 names one")
    if sys.version_info[:2] > NEWEST:
        return warning("Python", here, f"the locked packages are for {allowed}")
    return ok("Python", here)


def _is_x86_linux() -> bool:
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def _system() -> Check:
    here = f"{platform.system()} on {platform.machine()}"
    if _is_x86_linux():
        return ok("system", here)
    return fault("system", here, "the locked packages are for Linux on x86-64")


def _processor() -> Check:
    flags, name = processor_flags(), processor_name()
    if not flags:
        return warning("processor", f"{name}; the system does not say what it can do", "vLLM's kernels need AVX2")
    if "avx2" not in flags:
        return fault(
            "processor",
            f"{name}, without AVX2",
            "vLLM's kernels for CPUs need AVX2, as processors have had it since 2013",
        )
    if "avx512_bf16" in flags and flags >= AVX512:
        kernels = "AVX-512 with bfloat16"
    else:
        kernels = "AVX-512" if flags >= AVX512 else "AVX2"
    bfloat16 = "native" if has_native_bfloat16() else "emulated, so model.dtype = 'auto' takes float32"
    return ok("processor", f"{name}; vLLM's kernels for {kernels}; bfloat16 {bfloat16}")


def _libraries() -> Check:
    """What the packages' compiled parts want from the system, which a small container may lack."""
    name, found = platform.libc_ver()
    if name == "glibc" and tuple(map(int, found.split(".")[:2])) < OLDEST_GLIBC:
        return fault(
            "libraries", f"glibc {found}", "the packages are built for glibc 2.28 or newer: a system of 2019 or newer"
        )
    for library, packages in LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            return fault("libraries", f"no {library}", f"install it: {packages}")
    return ok("libraries", f"{name or 'an unknown C library'} {found}, {', '.join(LIBRARIES)}")


def _cores() -> Check:
    allowed = cores()
    if allowed < 2:
        return warning("cores", f"{allowed:g}", "rollouts and training want one each: expect half the speed")
    return ok("cores", f"{allowed:g}" + ("" if allowed == os.cpu_count() else f" of the machine's {os.cpu_count()}"))


def _memory() -> Check:
    available, total = available_memory(), total_memory()
    if available is None or total is None:
        return warning(
            "memory", "the system does not say how much there is", f"a worker takes about {MEMORY_BYTES / GIB:.0f} GiB"
        )
    limited = "" if memory_limit() is None else " (a control group's limit)"
    found = f"{available / GIB:.1f} GiB available of {total / GIB:.1f}{limited}"
    if available < MEMORY_BYTES:
        return warning(
            "memory", found, f"a worker takes about {MEMORY_BYTES / GIB:.0f} GiB: `sweep plan` says what yours takes"
        )
    return ok("memory", found)


def _shared_memory() -> Check:
    folder = Path("/dev/shm")  # noqa: S108 - looked at, not written to  # nosec B108
    if not os.access(folder, os.W_OK):
        return ok("shared memory", "none: adapters are handed to the engine through the disk")
    size, noexec = shutil.disk_usage(folder), not can_run_programs(folder)
    found = f"{size.free / GIB:.2f} GiB free of {size.total / GIB:.2f}{', noexec' if noexec else ''}"
    return ok("shared memory", found + "; adapters that do not fit go through the disk")


def _disk(environment: Path) -> Check:
    here = shutil.disk_usage(environment.absolute().parent).free
    found = f"{here / GIB:.1f} GiB free"
    if not environment.exists() and here < SETUP_BYTES:
        return fault("disk", found, f"setting up takes {SETUP_BYTES / GIB:.1f} GiB")
    if here < GIB:
        return warning("disk", found, "logs, adapters and the storage grow with every trial")
    return ok("disk", found)


def main() -> None:
    """Prints what would keep a set-up from working, and exits with 2 where there is such a thing."""
    environment = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(".venv")
    faults = [check for check in machine_checks(environment) if check.status is Status.FAULT]
    for check in faults:
        sys.stderr.write(f"setup: {check.name}: {check.found}; {check.remedy}\n")
    sys.exit(2 if faults else 0)


if __name__ == "__main__":
    main()
