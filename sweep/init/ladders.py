"""Ladders around what somebody trains with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sweep.init.draft import KEYS


def rank_ladder(r: int, wall: int) -> list[int]:
    """Four ranks at most, a factor of 4 apart, theirs among them and none above the wall."""
    ladder = {r}
    for rank in (r // 4, r // 16, r // 64, r * 4):
        if 1 <= rank <= wall and len(ladder) < 4:
            ladder.add(rank)
    # Small ranks leave fewer than three powers of 4 below the wall.
    if len(ladder) < 3 and r // 2 >= 1:
        ladder.add(r // 2)
    return sorted(ladder)


def alpha_ladder(
    r: int, alpha: int | None, ranks: Sequence[int], wall: int, where: str
) -> Iterator[tuple[str, Any, str]]:
    """Keys, values and comments that say their alpha, freed: as a multiple of r where it is one.

    Args:
        r: Their rank.
        alpha: Their lora_alpha, where it is known.
        ranks: The ladder of ranks.
        wall: `max_lora_rank`.
        where: Where theirs stands.
    """
    theirs = f"theirs is {alpha} at r = {r} ({where})" if alpha is not None else "theirs is not known"
    if "alpha_per_r" in KEYS["space"] and (alpha is None or alpha % r == 0):
        times = 1 if alpha is None else alpha // r
        multiples = sorted({1, 2, times})
        yield "alpha_per_r", multiples, f"lora_alpha in multiples of r; {theirs}"
        top = max(multiples) * max(ranks)
    else:
        around = alpha or r
        values = sorted({max(1, around // 2), around, around * 2})
        yield "alpha", values, theirs
        top = max(values)
    if top > wall:
        yield "alpha_above_ceiling", True, f"up to {top}, above max_lora_rank {wall}: the engine only limits r"


def rate_ladder(rate: float) -> list[float]:
    """Four learning rates, half theirs to four times theirs."""
    return [float(f"{rate * factor:.3g}") for factor in (0.5, 1, 2, 4)]
