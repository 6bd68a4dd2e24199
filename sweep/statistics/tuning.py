"""Whether a rank was tuned like the others, so that it may be compared with them."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping


def why_untuned(
    tried: Collection[Hashable], stable: Collection[Hashable], points_per_rank: int, with_set: Mapping[str, int]
) -> str:
    """Why a rank is not to be compared with others; empty where it is.

    Args:
        tried: Its distinct points, of trials that ended with a score.
        stable: Those of them at which no trial collapsed.
        points_per_rank: Points that the design gives each rank, with each set of target modules.
        with_set: How many of the tried are with each set that was searched; empty where none was.
    """
    short = {name: points for name, points in with_set.items() if points < points_per_rank}
    if short:
        each = (f"{points} of {points_per_rank} search points with {name}" for name, points in short.items())
        return f"not tuned: {', '.join(each)}"
    if len(tried) < points_per_rank:
        return f"not tuned: {len(tried)} of {points_per_rank} search points"
    return "" if stable else f"not tuned: every one of its {len(tried)} search points collapsed"
