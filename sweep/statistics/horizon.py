"""Does the answer depend on how long a trial trains? The verdict at parts of the episode budget.

A sweep trains for less than the run it advises. If the smallest sufficient rank still moves between a
quarter, half and all of the budget, it may well move on beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sweep.statistics.assessment import Outcome
from sweep.statistics.confirmation import Confirmation
from sweep.statistics.rule import Rule
from sweep.statistics.verdict import Verdict, judge
from sweep.text import percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """Verdicts by share of the budget."""

    verdicts: Mapping[float, Verdict]
    """Share of the episode budget, in (0, 1], ascending; each judged by the same rule."""
    moves: bool
    """Two shares, both with an answer, name different ranks."""
    warning: str
    """One sentence; empty when the answer was the same at every share, or there is none at the last."""

    @property
    def ranks(self) -> dict[float, int | None]:
        """The answer at each share; None where undecided."""
        return {share: verdict.r for share, verdict in self.verdicts.items()}


def judge_horizon(confirmations: Mapping[float, Confirmation], rule: Rule) -> Horizon:
    """Judge the same trials at several points of their training.

    This compares answers and is no test of its own: each verdict is at the declared confidence, their
    agreement is not, and an answer can move because an early one missed it.

    Args:
        confirmations: by share of the episode budget, in (0, 1]; the scores evaluated at that point. The
            frozen configurations, and so the start of each step-down, are those of the whole search.
        rule: as declared.

    Raises:
        ValueError: no share is given, or one is outside (0, 1].
    """
    shares = sorted(confirmations)
    if not shares or not (shares[0] > 0 and shares[-1] <= 1):
        raise ValueError(f"shares of the budget must be in (0, 1], got {shares}")
    verdicts = {share: judge(confirmations[share], rule) for share in shares}
    answers = {share: verdict.r for share, verdict in verdicts.items() if verdict.r is not None}
    moves = len(set(answers.values())) > 1
    # Without an answer at the whole budget there is none that could move.
    settled = verdicts[shares[-1]].r is not None
    return Horizon(verdicts=verdicts, moves=moves, warning=_warn(verdicts, answers, moves=moves) if settled else "")


def _warn(verdicts: Mapping[float, Verdict], answers: Mapping[float, int], *, moves: bool) -> str:
    if moves:
        path = ", ".join(f"r={r} at {percent(share)}" for share, r in answers.items())
        first, *_, last = answers.values()
        advice = "larger" if last > first else "smaller" if last < first else "different"
        moved = f"The smallest rank that is shown to suffice differs by budget ({path})"
        return f"{moved}: a longer run may want a {advice} one."
    missing = [share for share in verdicts if share not in answers]
    unlearned = [share for share in missing if verdicts[share].outcome is Outcome.NOTHING_LEARNED]
    undecided = [share for share in missing if share not in unlearned]
    why = [
        f"{said} at {' and '.join(map(percent, shares))} of it"
        for said, shares in (("nothing is shown to be learned", unlearned), ("it is undecided", undecided))
        if shares
    ]
    return f"Whether the answer moves with the budget is not known: {', and '.join(why)}." if why else ""
