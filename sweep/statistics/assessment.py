"""A confirmation with the rule applied to it: the material from which a verdict is worded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from sweep.statistics.confirmation import Confirmation
from sweep.statistics.decision import Decision, Evidence, step_down, weigh
from sweep.statistics.outlook import MATTERS, ranks_that_may_gain, seeds_for_a_gain
from sweep.statistics.rule import Rule
from sweep.statistics.sequential import UNLIKELY, chance_of_gain, likely_gain


class Outcome(StrEnum):
    """How far the confirmation got; the values are stable and appear in JSON."""

    FOUND_AND_SMALLER_SHOWN_WORSE = "found_and_smaller_shown_worse"
    """A rank passed, and the next one down is shown too small, or to collapse too often."""
    FOUND_SMALLER_UNDECIDED = "found_smaller_undecided"
    """A rank passed; whether the next one down would do is open, or it was not tuned."""
    FOUND_SMALLEST_TRIED = "found_smallest_tried"
    """The smallest rank on the ladder passed: there is nothing below it to judge."""
    NOTHING_LEARNED = "nothing_learned"
    """No rank is shown to beat the base policy, and none looks as if more seeds would show that it does."""
    UNDECIDED = "undecided"
    """Not even the rank that the search favours passed, or there was no other to compare it with."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assessment:
    """Trials, rule, evidence and decision, without leading axes. Ranks are positions, -1 stands for none."""

    confirmation: Confirmation
    """At least one frozen configuration."""
    rule: Rule
    evidence: Evidence
    decision: Decision

    @property
    def comparable(self) -> bool:
        """There are two tuned ranks to compare."""
        return len(self.confirmation.frozen) > 1

    @property
    def smallest(self) -> int:
        """The answer: the last rank that passed."""
        return int(self.decision.smallest) if self.comparable else -1

    @property
    def start(self) -> int:
        """The rank the search favours, among those still judged."""
        return int(self.decision.start) if self.decision.judged.any() else -1

    @property
    def next_down(self) -> int:
        """The judged rank at which the step-down stopped."""
        return int(self.decision.next_down) if self.comparable else -1

    @property
    def outcome(self) -> Outcome:
        """Where the step-down ended."""
        if self.smallest < 0:
            nothing = self._none_shown_to_gain and not self.gain_is_open
            return Outcome.NOTHING_LEARNED if nothing else Outcome.UNDECIDED
        if self.untuned_below:
            return Outcome.FOUND_SMALLER_UNDECIDED
        if self.smallest == 0:
            return Outcome.FOUND_SMALLEST_TRIED
        shown = bool(self.decision.shown_worse)
        return Outcome.FOUND_AND_SMALLER_SHOWN_WORSE if shown else Outcome.FOUND_SMALLER_UNDECIDED

    @property
    def gain_is_open(self) -> bool:
        """No rank is shown to gain for want of seeds: more would likely show one, or one that matters is possible."""
        if not self._none_shown_to_gain:
            return False
        judged = self.decision.judged
        if self.rule.cap is not None:
            matters = MATTERS * (self.confirmation.spread or 0.0)
            may = likely_gain(self.evidence, self.rule) > matters
            return bool((judged & may & (chance_of_gain(self.evidence, self.rule) >= UNLIKELY)).any())
        return bool(self.may_gain) or bool(seeds_for_a_gain(self.confirmation, self.evidence, self.rule, judged))

    @property
    def may_gain(self) -> list[int]:
        """Positions of the judged ranks whose gain may be one that matters, for all that the seeds so far show."""
        return ranks_that_may_gain(self.confirmation, self.evidence, self.decision.judged)

    @property
    def _none_shown_to_gain(self) -> bool:
        """No judged rank is shown to gain, though there are seeds enough for one of them to be recommended."""
        judged, evidence = self.decision.judged, self.evidence
        if self.rule.cap is None:
            could_pass = judged & evidence.within & np.isfinite(np.diagonal(evidence.bounds.lower))
        else:
            # It may be given up before collapse is looked at, or while a gain of nothing at all has no spread.
            could_pass = judged & (np.diagonal(evidence.bounds.n_seeds) >= self.rule.first_look)
        return self.comparable and bool(could_pass.any()) and not bool((judged & evidence.learned).any())

    @property
    def untuned_below(self) -> tuple[int, ...]:
        """The r of each untuned rank between the answer and the next judged rank down; nobody judged them."""
        if self.smallest < 0:
            return ()
        floor = self.r(self.next_down) if self.next_down >= 0 else 0
        return tuple(rank.r for rank in self.confirmation.untuned if floor < rank.r < self.r(self.smallest))

    @property
    def open_rank(self) -> int:
        """The rank on which the verdict hangs, where more seeds could settle it."""
        if not self.comparable or self.untuned_below:
            return -1
        if self.smallest < 0:
            return self.start
        return -1 if bool(self.decision.shown_worse) else self.next_down

    def r(self, position: int) -> int:
        """The rank at a position of the ladder."""
        return self.confirmation.frozen[position].r

    def guards_open(self, position: int) -> list[int]:
        """The guards, by their number, that a rank has not passed."""
        passed = self.decision.guards_pass[:, position]
        return [int(i) for i in np.flatnonzero(~passed)]

    def rivals(self, position: int) -> list[int]:
        """Positions of the other judged ranks."""
        return [j for j in np.flatnonzero(self.decision.judged).tolist() if j != position]

    def worst_rival(self, position: int) -> int:
        """The judged rank against which this one has the lowest bound."""
        lower = self.evidence.bounds.lower[position]
        return min(self.rivals(position), key=lambda j: float(lower[j]), default=-1)


def assess(confirmation: Confirmation, rule: Rule) -> Assessment:
    """Weigh the trials and step down.

    Args:
        confirmation: at least one frozen configuration.
        rule: declared before these trials ran.

    Raises:
        ValueError: the rule looks at gains, and the base policy's scores are not known.
    """
    if rule.gains and confirmation.base is None:
        raise ValueError("this rule looks at gains over the base policy, whose scores are not known")
    evidence = weigh(
        confirmation.gains,
        confirmation.collapsed,
        rule,
        rounding=confirmation.rounding,
        guards=confirmation.guards,
        prompts=confirmation.prompts,
    )
    smoothed = [configuration.smoothed for configuration in confirmation.frozen]
    decision = step_down(evidence, smoothed, rule)
    return Assessment(confirmation=confirmation, rule=rule, evidence=evidence, decision=decision)
