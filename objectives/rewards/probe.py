"""Calling rewards as a study will call them, before it does: again, in another order, with fewer or more of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from objectives.errors import RewardError
from objectives.rewards.calling import RewardSet, Table
from objectives.tasks.protocol import Row

PATIENCE_S = 20.0
"""What calling a reward once more may take; of a slower one, only so many groups are tried again."""
MARGIN = 2.0
"""Times the foreseen duration that a time limit should allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Groups of completions, those of a prompt side by side."""

    rows: Sequence[Row]
    completions: Sequence[Any]
    token_ids: Sequence[Sequence[int]]

    def pick(self, order: Sequence[int]) -> Samples:
        """Some of them, in this order."""
        return Samples(
            rows=[self.rows[i] for i in order],
            completions=[self.completions[i] for i in order],
            token_ids=[self.token_ids[i] for i in order],
        )


def probe(
    rewards: RewardSet, samples: Samples, *, group_size: int, largest_call: int, timeout_s: float
) -> tuple[Table, list[str]]:
    """Calls every function, then again in other ways.

    Args:
        rewards: The functions.
        samples: What to call them with.
        group_size: Completions per prompt.
        largest_call: Completions of the largest call that the study will make.
        timeout_s: What a call may take.

    Returns:
        The first call's table, and a sentence for everything that a study would trip over.

    Raises:
        RewardError: where a function breaks its contract.
    """
    table: Table = []
    warnings: list[str] = []
    for i, name in enumerate(rewards.names):
        one = rewards.single(i)
        values, seconds = _timed(one, samples)
        table.append(values)
        groups = len(samples.rows) // group_size
        tried = min(groups, max(1, int(groups * PATIENCE_S / seconds))) if seconds else groups
        warning, again_s = _try_again(one, samples, values, n=tried * group_size, group_size=group_size)
        if warning:
            warnings.append(f"reward {name} gives another value {warning}.")
        # The first call may have loaded a model or opened a connection, which a study pays for once.
        each_s = min(seconds / len(samples.rows), again_s)
        warnings += _slowness(name, each_s, largest_call=largest_call, timeout_s=timeout_s)
    return table, warnings


def _timed(one: RewardSet, samples: Samples) -> tuple[list[float | None], float]:
    began = time.monotonic()
    [values] = one.table(samples.rows, samples.completions, samples.token_ids)
    return values, time.monotonic() - began


def _try_again(
    one: RewardSet, samples: Samples, values: Sequence[float | None], *, n: int, group_size: int
) -> tuple[str | None, float]:
    """Calls a function with its first n completions in other ways.

    Returns:
        The first way in which it gives the same completion another reward, and what that does to a study; None where
        there is no such way. And the seconds that a completion took when it was called once more.
    """
    ways = (
        (
            range(n),
            "when it is called with the same completions once more: it keeps something between calls, or draws at "
            "random. Trials would differ by the order they ran in",
        ),
        (
            range(n - 1, -1, -1),
            "when the same completions come in another order: it looks at their neighbours, or counts. Trials would "
            "differ by the order of their prompts",
        ),
        (
            range(0, n, group_size),
            "when it is called with one completion per prompt, as scoring does: what is scored would not be what was "
            "trained for",
        ),
    )
    warning, each_s = None, math.inf
    for order, meaning in ways:
        try:
            found, seconds = _timed(one, samples.pick(order))
        except RewardError as error:
            raise RewardError(f"{error} ({len(order)} completions, after a call that went well)") from error
        each_s = min(each_s, seconds / len(order))
        pairs = [(values[i], value) for i, value in zip(order, found, strict=True)]
        if warning is None and (differing := [pair for pair in pairs if not _same(*pair)]):
            first, then = map(_shown, differing[0])
            warning = f"({first}, then {then}) {meaning}"
    return warning, each_s


def _slowness(name: str, seconds: float, *, largest_call: int, timeout_s: float) -> Iterator[str]:
    foreseen = seconds * largest_call
    if foreseen * 1.2 > timeout_s:
        yield (
            f"reward {name} takes {seconds:.2g} s per completion: the study's largest call, of {largest_call:,} "
            f"completions, would take about {foreseen:.2g} s, and task.reward_timeout_s={timeout_s:g}. "
            f"Set it to {math.ceil(foreseen * MARGIN)} or more."
        )


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


def _shown(value: float | None) -> str:
    return "None" if value is None else f"{value:g}"
