"""Which slots of a pack roll out and train together."""

from __future__ import annotations


def pack_halves(slots: int, *, on_gpu: bool) -> list[range]:
    """On a CPU two halves, one of which rolls out while the other trains; on a GPU, where nobody has measured it, one.

    Args:
        slots: Of the pack.
        on_gpu: Whether it trains on one.
    """
    if slots == 1 or on_gpu:
        return [range(slots)]
    return [range(slots // 2), range(slots // 2, slots)]
