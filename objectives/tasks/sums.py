"""Sums of two-digit numbers, asked in plain text after worked ones: what a small language model half knows."""

from __future__ import annotations

import random
from typing import Any

from objectives.tasks.protocol import Row

WORKED = ((27, 35), (76, 54))
EXAMPLES = "".join(f"{a} + {b} = {a + b}\n" for a, b in WORKED)
"""What stands before every question. It shows the form of an answer better than words would."""

TRAINING, HELD_OUT = 3000, 1024
"""Sums of each split."""
SEED = 135


def sums() -> tuple[list[Row], list[Row]]:
    """Sums to train on and sums to hold out. A sum and the one with its numbers changed over are one."""
    numbers, shown = range(10, 100), [set(pair) for pair in WORKED]
    pairs = [(a, b) for a in numbers for b in numbers if a <= b and {a, b} not in shown]
    rng = random.Random(SEED)
    rng.shuffle(pairs)
    rows = [_row(*rng.sample(pair, k=2)) for pair in pairs]
    return rows[HELD_OUT : HELD_OUT + TRAINING], rows[:HELD_OUT]


def right(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    """Rewards 1.0 for a completion that is the number and nothing else, otherwise 0.0."""
    return [float(completion.strip() == number) for completion, number in zip(completions, answer, strict=True)]


def _row(a: int, b: int) -> Row:
    return {"prompt": f"{EXAMPLES}{a} + {b} =", "answer": str(a + b)}
