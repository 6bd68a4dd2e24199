"""Whether a worker computes where its study was planned to."""

from __future__ import annotations

import os

from objectives import stages
from objectives.errors import DeviceError
from objectives.machine import nvidia_driver
from objectives.settings.sections import ModelSettings


def has_gpu(model: ModelSettings) -> bool:
    """Whether torch computes on a GPU. Unsloth wants to be imported before torch's friends, so it is, where it is used.

    Raises:
        DeviceError: where the study needs a GPU, or the machine has one, and torch cannot use it.
    """
    try:
        if model.policy == "unsloth":
            with stages.during("importing Unsloth"):
                import objectives.policies.unsloth  # noqa: F401
    finally:
        # Also where Unsloth refuses the machine: it doesn't say which versions don't go together.
        with stages.during("importing torch"):
            import torch
        usable = bool(torch.cuda.is_available())
        if not usable:
            _refuse_processor(model, build=torch.__version__, cuda=torch.version.cuda)
    return usable


def _refuse_processor(model: ModelSettings, *, build: str, cuda: str | None) -> None:
    """Refuses to train on the processor what was planned for a GPU.

    Raises:
        DeviceError: naming torch's version of CUDA and the driver's.
    """
    driver = nvidia_driver()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1"}
    there = cuda is not None and driver is not None and not hidden
    if model.device == "gpu" or there:
        needs = "is a build for processors" if cuda is None else f"needs a driver for CUDA {cuda}"
        raise DeviceError(
            f"torch sees no GPU that it can use: torch {build} {needs}, and the NVIDIA driver here is "
            f"{driver or 'not loaded'}; allowed: a driver and a torch that go together"
            + ("" if model.device == "gpu" else ", or CUDA_VISIBLE_DEVICES=-1 for the processor")
        )
