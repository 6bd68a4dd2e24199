"""What a declared verdict can show, before the search is paid for: the least of it, against the reward's own spread.

A held-out score is a mean over so many prompts, so it is off by the reward's standard deviation between prompts (its
*spread*) over the root of their number at least. Training adds noise of its own, which nobody knows beforehand: what
is said here is the least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sweep.schema import CURRENT, rule_of
from sweep.statistics.power import TARGET_POWER, smallest_gap
from sweep.statistics.wording import percent
from sweep.study_file import StudyFile
from sweep.units import figure


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictPlan:
    """The declared rule and its reach. One of `smallest_gain` and `widest_spread` is known, by the rule's kind."""

    keep: float | None
    tolerance: float | None
    confidence: float
    seeds: int
    held_out_prompts: int
    """At most: as many as the task has."""
    smallest_gain: float | None
    """Of the best rank, in spreads: a smaller one hides whether another keeps its share. Under `keep`."""
    widest_spread: float | None
    """Of the reward: under a wider one, equals are not found equal. Under `tolerance`."""

    @property
    def means(self) -> str:
        """The seeds and prompts in words."""
        return f"{self.seeds} seeds a rank on {self.held_out_prompts:,} held-out prompts"

    @property
    def sentence(self) -> str:
        """What it comes to while the reward's spread is not known."""
        if self.smallest_gain is not None and self.keep is not None:
            return (
                f"A rank has to keep {percent(self.keep)} of the best gain over the base policy. {self.means} can "
                f"judge that where the best gain is {figure(self.smallest_gain)} of the reward's spread or more {LEAST}. "
                "`sweep try-reward` measures the spread."
            )
        return (
            f"A rank may lie {self.tolerance:g} below the best, in units of the reward. {self.means} can find equals "
            f"equal where the reward's spread is {figure(self.widest_spread or math.inf)} or less {LEAST}. "
            "`sweep try-reward` measures the spread."
        )

    def against(self, spread: float) -> str:
        """What it comes to for a reward of this spread.

        Args:
            spread: Standard deviation of the reward over completions of the base policy.
        """
        if not spread > 0:
            return "The reward is the same for every completion: there is nothing to gain and nothing to judge."
        if self.smallest_gain is not None:
            return (
                f"The reward's spread is {figure(spread)}. With verdict.keep = {self.keep:g}, {self.means} can judge a "
                f"best gain of {figure(self.smallest_gain * spread)} or more {LEAST}."
            )
        share = f"verdict.tolerance = {self.tolerance:g} is {figure((self.tolerance or 0.0) / spread)} of it"
        if (self.tolerance or 0.0) >= spread:
            reach = "that wide, it calls ranks equal that differ by all there is: declare less, or verdict.keep instead"
        elif spread <= (self.widest_spread or 0.0):
            reach = f"{self.means} can find equals equal within that {LEAST}"
        else:
            reach = (
                f"{self.means} cannot find equals equal within that, whatever training does: they could at a spread of "
                f"{figure(self.widest_spread or 0.0)}. More held-out prompts help most; verdict.keep has no units"
            )
        return f"The reward's spread is {figure(spread)}; {share}: {reach}."


LEAST = f"(power {TARGET_POWER:g}, if sampling were all the noise)"


def plan_verdict(config: StudyFile) -> VerdictPlan:
    """What a study's declared verdict can show."""
    rule, seeds, prompts = rule_of(config, CURRENT), config.verdict.seeds, config.task.held_out_prompts
    rivals = max(1, len(config.search_space().r) - 1)
    keep = rule.share
    # Per spread: the score, the rival's share, and what is left of the base policy's, which all ranks of a seed share.
    contrast_sd = math.sqrt((1 + keep**2 + (1 - keep) ** 2) / prompts)
    gap = smallest_gap(contrast_sd, seeds, rivals, rule.bound_confidence)
    own = smallest_gap(math.sqrt(2 / prompts), seeds, 1, rule.bound_confidence)
    return VerdictPlan(
        keep=rule.keep,
        tolerance=rule.tolerance,
        confidence=rule.confidence,
        seeds=seeds,
        held_out_prompts=prompts,
        smallest_gain=None if rule.keep is None else max(own, gap / (1 - rule.keep)),
        widest_spread=None if rule.tolerance is None else rule.tolerance / gap,
    )
