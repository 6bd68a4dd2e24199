"""Common NVIDIA cards: their memory, and what their data sheets promise of bandwidth and arithmetic.

Memory is as the driver reports it, which differs from the figure on the box: an L4 of 24 GB has 22.5 GiB. Bandwidth and
dense 16-bit tensor throughput with float32 accumulation are from NVIDIA's public data sheets of each product and, for
GeForce, from the whitepapers of the GA102, Ada and RTX Blackwell architectures; where a sheet gives figures with
sparsity, half of them. V100, A100-80, H100, H200 and B200 are the SXM modules: PCIe versions are slower.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card as its data sheet has it."""

    memory_mib: int
    bandwidth_gb_s: float
    tflops: float
    """Dense, in bfloat16, or in float16 where it has none, in 10^12 operations a second."""


CARDS = {
    "T4": Card(memory_mib=15360, bandwidth_gb_s=300, tflops=65),
    "V100-16": Card(memory_mib=16384, bandwidth_gb_s=900, tflops=125),
    "V100-32": Card(memory_mib=32768, bandwidth_gb_s=900, tflops=125),
    "RTX 3090": Card(memory_mib=24576, bandwidth_gb_s=936, tflops=71),
    "RTX 4090": Card(memory_mib=24564, bandwidth_gb_s=1008, tflops=165.2),
    "RTX 5090": Card(memory_mib=32607, bandwidth_gb_s=1792, tflops=209.5),
    "RTX A6000": Card(memory_mib=49140, bandwidth_gb_s=768, tflops=154.8),
    "L4": Card(memory_mib=23034, bandwidth_gb_s=300, tflops=121),
    "A10": Card(memory_mib=23028, bandwidth_gb_s=600, tflops=125),
    "L40S": Card(memory_mib=46068, bandwidth_gb_s=864, tflops=362),
    "A100-40": Card(memory_mib=40960, bandwidth_gb_s=1555, tflops=312),
    "A100-80": Card(memory_mib=81920, bandwidth_gb_s=2039, tflops=312),
    "H100": Card(memory_mib=81559, bandwidth_gb_s=3350, tflops=989),
    "H200": Card(memory_mib=143771, bandwidth_gb_s=4800, tflops=989),
    "B200": Card(memory_mib=183359, bandwidth_gb_s=8000, tflops=2250),
}
BEFORE_AMPERE = re.compile(r"\b(T4|V100|P100|P40|RTX 20\d\d|GTX)", re.IGNORECASE)
"""Names of GPUs without bfloat16."""
WITHOUT_KERNELS = re.compile(r"\b(V100|P100|P40|GTX 10\d\d)\b", re.IGNORECASE)
"""Names of GPUs that torch 2.13 for CUDA 13 is not compiled for: those before compute capability 7.5."""
SLOWER = re.compile(r"\b(H100|H200|V100).*\bPCIe|Laptop|Max-Q", re.IGNORECASE)
"""Names of versions that are slower than the card of that name in the table."""


def find_card(name: str, memory_mib: int) -> Card | None:
    """The card that a driver calls by this name; None for one that is not in the table.

    Args:
        name: As nvidia-smi prints it, such as `NVIDIA A100-SXM4-80GB`.
        memory_mib: Of the card: those of one name come in several sizes.
    """
    for known, card in CARDS.items():
        model = known.partition("-")[0].removeprefix("RTX ")
        alike = abs(memory_mib - card.memory_mib) < 0.1 * card.memory_mib
        if alike and re.search(rf"\b{model}\b", name) and not SLOWER.search(name):
            return card
    return None
