"""Whether there is a GPU, and whether torch can use it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from sweep.doctor.check import Check, fault, ok, warning
from sweep.doctor.packages import torch_cuda_build
from sweep.preflight.devices import VISIBLE, ask_nvidia_smi, gpus_hidden, present_device, shows_gpu

ASK_TORCH = "import torch; print(torch.cuda.is_available(), torch.cuda.get_device_capability()[0])"


def gpu_checks() -> Iterator[Check]:
    """Looks at the driver, at torch's build, and, where there are both, asks torch itself."""
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
    name = "a GPU" if device is None else f"{device.name}, {device.memory_bytes / 2**30:.1f} GiB"
    found = f"{name}, driver {driver or 'unknown'}"
    if driver is None:
        yield fault("GPU", found, "nvidia-smi does not answer: install NVIDIA's driver, or pass it into the container")
    elif build is None:
        yield warning("GPU", f"{found}; torch is built for CPUs and leaves it alone", "pip install 'rank-sweep[gpu]'")
    elif gpus_hidden():
        hidden = f"{VISIBLE}={os.environ[VISIBLE]!r} hides it: trials run on the processor"
        yield warning("GPU", f"{found}; {hidden}", f"unset {VISIBLE}")
    else:
        yield _ask_torch(found, build)


def _driver() -> str | None:
    words = (ask_nvidia_smi("driver_version", timeout_s=10) or "").split()
    return words[0] if words else None


def _ask_torch(found: str, build: str) -> Check:
    try:
        child = subprocess.run(
            [sys.executable, "-c", ASK_TORCH], capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return fault("GPU", f"{found}; torch does not answer", "see what else uses the GPU")
    if child.stdout.startswith("True"):
        return ok("GPU", f"{found}, torch for CUDA {build}")
    return fault(
        "GPU", f"{found}; torch for CUDA {build} cannot use it", "install a driver that is new enough for that CUDA"
    )
