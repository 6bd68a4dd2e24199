"""Where a study runs and what follows from it, decided once: the device, the engine, whether packs can train there."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from objectives.memory.footprint import EngineKind, engine_kind
from sweep.preflight.devices import Device, gpus_hidden, present_device, shows_gpu
from sweep.study.file import StudyFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A study on a device."""

    device: Device | None
    """The GPU; None for a processor, or for a GPU that is not known yet."""
    on_gpu: bool
    engine: EngineKind
    """What a worker starts."""
    unpackable: str
    """Why the packed learner, if the study asks for it, cannot train there, and what would help; empty where it can."""


def place(config: StudyFile, device: Device | None) -> Placement:
    """Places a study.

    Args:
        config: The study.
        device: The GPU that it runs on; None for the processor, unless the study needs a GPU.
    """
    return _placed(config, device, on_gpu=device is not None or config.model.device == "gpu")


def place_here(config: StudyFile) -> Placement:
    """Places a study on this machine."""
    return _placed(config, device_here(), on_gpu=uses_gpu_here())


def uses_gpu_here() -> bool:
    """Whether a worker here would compute on a GPU: one is visible, and torch is not a build for processors alone."""
    try:
        # Read from the package's version: importing torch takes seconds, and the supervisor never does.
        return shows_gpu() and not gpus_hidden() and not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def device_here() -> Device | None:
    """The GPU that a worker here would compute on; None for the processor, or where nvidia-smi does not tell."""
    return present_device() if uses_gpu_here() else None


def _placed(config: StudyFile, device: Device | None, *, on_gpu: bool) -> Placement:
    engine = engine_kind(config.model, on_gpu=on_gpu, samples=config.task.samples)
    return Placement(device=device, on_gpu=on_gpu, engine=engine, unpackable=_unpackable(config, engine, on_gpu=on_gpu))


def _unpackable(config: StudyFile, engine: EngineKind, *, on_gpu: bool) -> str:
    if config.learner.name != "packed" or not on_gpu:
        return ""
    if engine == "unsloth":
        return "the packed learner does not run on Unsloth's GPU kernels: --set model.policy=peft"
    if config.model.dtype == "float16":
        return "the packed learner does not scale losses, which float16 needs: --set model.dtype=bfloat16"
    return ""
