"""Whether there is a GPU, and whether torch, bitsandbytes and a study can use it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sweep.doctor.caches import cache_check
from sweep.doctor.check import Check, fault, ok, warning
from sweep.doctor.packages import torch_cuda_build
from sweep.preflight.devices import VISIBLE, ask_nvidia_smi, gpus_hidden, present_device, shows_gpu

ASK_TORCH = (
    "import json, torch\n"
    "there = torch.cuda.is_available()\n"
    "print(json.dumps({'available': there, 'architectures': torch.cuda.get_arch_list(),\n"
    "                  'capability': torch.cuda.get_device_capability() if there else None}))\n"
)
ASK_BITSANDBYTES = (
    "import torch, bitsandbytes.functional as functional\n"
    "from bitsandbytes.cextension import lib\n"
    "functional.quantize_4bit(torch.ones(64, 64, device='cuda', dtype=torch.float16))\n"
    "print(lib._lib._name.rpartition('/')[2])\n"
)
ANSWER_S = 120
LOGS = Path("rank-sweep.logs")
"""Beside the default storage; each study has a folder of its own there."""
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
"""The oldest driver for each CUDA, by NVIDIA's table of minor version compatibility."""
MIB, GIB = 2**20, 2**30
USED_SHARE = 0.1
"""A GPU of whose memory more than this is taken is in use by somebody else."""


def gpu_checks() -> Iterator[Check]:
    """Looks at the driver, at torch's build, and, where there are both, asks torch and bitsandbytes themselves."""
    build, driver = torch_cuda_build(), _driver()
    if not shows_gpu() and driver is None:
        if build is None:
            yield ok("GPU", "none; torch is built for CPUs")
        else:
            yield warning(
                "GPU", f"none, and torch is built for CUDA {build}", "a build for CPUs is smaller: `make setup`"
            )
        return
    device = present_device()
    name = "a GPU" if device is None else f"{device.name}, {device.memory_bytes / GIB:.1f} GiB"
    found = f"{name}, driver {driver or 'unknown'}"
    if driver is None:
        yield fault("GPU", found, "nvidia-smi does not answer: install NVIDIA's driver, or pass it into the container")
    elif build is None:
        yield warning("GPU", f"{found}; torch is built for CPUs and leaves it alone", "pip install 'rank-sweep[gpu]'")
    elif gpus_hidden():
        hidden = f"{VISIBLE}={os.environ[VISIBLE]!r} hides it: trials run on the processor"
        yield warning("GPU", f"{found}; {hidden}", f"unset {VISIBLE}")
    else:
        yield from _usable(found, build, driver)


def _usable(found: str, build: str, driver: str) -> Iterator[Check]:
    """Looks at a GPU that there is a driver for and a build of torch."""
    needed = OLDEST_DRIVER.get(int(build.partition(".")[0]), 0)
    if (number := re.match(r"\d+", driver)) and int(number[0]) < needed:
        yield fault(
            "GPU", f"{found}; CUDA {build}, that torch is built for, needs {needed} or newer", "install a newer driver"
        )
        return
    answer = _answer(ASK_TORCH)
    if not isinstance(answer, dict) or not answer["available"]:
        why = "" if isinstance(answer, dict) else f": {answer}"
        yield fault(
            "GPU",
            f"{found}; torch for CUDA {build} cannot use it{why}",
            "install a driver that is new enough for that CUDA, and see what else uses the GPU",
        )
        return
    yield ok("GPU", f"{found}, torch for CUDA {build}")
    yield _capability(answer["capability"], answer["architectures"])
    yield from _free_memory()
    yield _bitsandbytes()
    yield cache_check(LOGS)


def _driver() -> str | None:
    words = (ask_nvidia_smi("driver_version", timeout_s=10) or "").split()
    return words[0] if words else None


def _answer(code: str) -> Any:
    """What a child process says last: the JSON value, or text, or what went wrong as the last line of its stderr."""
    try:
        child = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer after {ANSWER_S} s"
    said = (child.stdout if child.returncode == 0 else child.stderr).strip().splitlines()
    try:
        return json.loads(said[-1])
    except (IndexError, ValueError):
        return said[-1] if said else f"ended with exit code {child.returncode}"


def _capability(capability: Sequence[int], architectures: Sequence[str]) -> Check:
    major, minor = capability
    found = f"{major}.{minor}"
    # Compiled kernels serve later cards of their own generation; PTX serves every later one.
    kernels = [re.fullmatch(r"(sm|compute)_(\d+)(\d)", name) for name in architectures]
    known = [(each[1], int(each[2]), int(each[3])) for each in kernels if each is not None]
    serves = any(
        (kind == "sm" and major == own and minor >= least) or (kind == "compute" and (major, minor) >= (own, least))
        for kind, own, least in known
    )
    if not serves:
        return fault(
            "compute capability",
            f"{found}; this torch has kernels for {', '.join(architectures)} alone",
            "install a torch that is built for this card, or use another card",
        )
    if major < 8:
        return ok("compute capability", f"{found}: no bfloat16, so model.dtype = 'auto' takes float16, packed float32")
    return ok("compute capability", found)


def _free_memory() -> Iterator[Check]:
    if (free := free_memory()) is None:
        return
    left, total = free
    found = f"{left / GIB:.1f} of {total / GIB:.1f} GiB free"
    if left < (1 - USED_SHARE) * total:
        yield warning("GPU memory", found, "nvidia-smi lists what uses it; it is missing to a study")
    else:
        yield ok("GPU memory", found)


def free_memory() -> tuple[int, int] | None:
    """Bytes free and in all on the GPU that may be used here; None where nvidia-smi does not tell."""
    free, _, total = (ask_nvidia_smi("memory.free,memory.total", timeout_s=10) or "").partition(",")
    try:
        return int(free) * MIB, int(total) * MIB
    except ValueError:
        return None


def _bitsandbytes() -> Check:
    answer = _answer(ASK_BITSANDBYTES)
    if isinstance(answer, str) and re.fullmatch(r"libbitsandbytes_cuda\d+\.so", answer):
        return ok("bitsandbytes", answer)
    return fault("bitsandbytes", str(answer), "model.load_in_4bit and 8-bit optimizers need its CUDA library")
