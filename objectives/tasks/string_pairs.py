"""Preference pairs of the string task: the right answer against one that the shipped policy takes it for."""

from __future__ import annotations

import random

from objectives.tasks.protocol import Row
from objectives.tasks.string_ops import DISTRACTORS, SYMBOLS, StringOps, apply

TRAINING, HELD_OUT = 4096, 1024
"""Pairs of each split."""


def preference_pairs() -> tuple[list[Row], list[Row]]:
    """Pairs to train on and pairs to hold out, over all symbols; strings are never in both.

    A rejected answer is that of one of the symbol's distractors, where that is another one.
    """
    task = StringOps(symbols=len(SYMBOLS))
    rng = random.Random("string_pairs")
    return _pairs(task.train_rows(TRAINING), rng), _pairs(task.held_out_rows(HELD_OUT), rng)


def _pairs(rows: list[Row], rng: random.Random) -> list[Row]:
    pairs = []
    for row in rows:
        letters, right = row["prompt"][2:-1], row["answer"]
        wrong = [answer for other in DISTRACTORS[row["symbol"]] if (answer := apply(other, letters)) != right]
        if wrong:  # of some strings every function makes the same
            pairs.append({"prompt": row["prompt"], "chosen": right, "rejected": rng.choice(wrong)})
    return pairs
