"""How many digits a number is shown with."""

from __future__ import annotations

import math


def decimals(spread: float) -> int:
    """Decimals with which numbers that differ by so much are told apart: 3 for rewards between 0 and 1."""
    if not spread > 0 or not math.isfinite(spread):
        return 3
    if spread < 0.02:
        return min(12, 4 + math.ceil(math.log10(0.02 / spread)))
    return 3 if spread < 2 else max(0, 2 - math.floor(math.log10(spread / 2)))
