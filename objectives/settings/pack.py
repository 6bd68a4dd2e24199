"""How work is divided: which slots of a pack roll out and train together, and how many logits are there at once."""

from __future__ import annotations

LOGITS_AT_ONCE = 2**25
"""In a pack's training: 512 MiB, at 16 bytes each. And where held-out pairs are ranked."""
PAIRS_AT_ONCE = 64
"""Held-out pairs that are ranked in one forward pass, at most."""


def pack_halves(slots: int, *, on_gpu: bool) -> list[range]:
    """On a CPU two halves, one of which rolls out while the other trains; on a GPU, where nobody has measured it, one.

    Args:
        slots: Of the pack.
        on_gpu: Whether it trains on one.
    """
    if slots == 1 or on_gpu:
        return [range(slots)]
    return [range(slots // 2), range(slots // 2, slots)]
