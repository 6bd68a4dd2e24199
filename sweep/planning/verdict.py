"""What a declared verdict can show, before the search is paid for: the least of it, against the reward's own spread.

A held-out score is a mean over so many prompts, so it is off by the reward's standard deviation between prompts (its
*spread*) over the root of their number at least. Training adds noise of its own, which nobody knows beforehand: what
is said here is the least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from sweep.study.file import StudyFile
from sweep.study.verdict_section import VerdictSection
from sweep.text import figure, percent

if TYPE_CHECKING:
    from sweep.statistics.guards import Guard

POWER = 0.8
"""Of a verdict, that a reach is said for: the customary one (Cohen, 1988)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictPlan:
    """The declared rule and its reach. One of `smallest_gain` and `widest_spread` is known, by the rule's kind."""

    keep: float | None
    tolerance: float | None
    confidence: float
    design: str
    seeds: int
    held_out_prompts: int
    prompts_known: bool
    """Whether there are as many; else the data may hold fewer, and then less can be judged."""
    smallest_gain: float | None
    """Of the best rank, in spreads: a smaller one hides whether another keeps its share. Under `keep`."""
    widest_spread: float | None
    """Of the reward: under a wider one, equals are not found equal. Under `tolerance`."""
    samples: bool = True
    """Whether scores are of sampled completions, or of preference pairs that are ranked."""
    guards: tuple[Guard, ...] = ()
    """What a rank has to pass besides. How far its seeds reach for them, no formula here says."""

    @property
    def _spread(self) -> str:
        if self.samples:
            return "`sweep try-reward` measures the spread."
        return "Of pairs, ranked right or wrong, it is 0.5, and ranking them again gives the same."

    @property
    def means(self) -> str:
        """The seeds and prompts in words."""
        most = "" if self.prompts_known else "at most "
        cap = "" if self.design == "fixed" else "up to "
        return f"{cap}{self.seeds} seeds per rank on {most}{self.held_out_prompts:,} held-out prompts"

    @property
    def sentence(self) -> str:
        """What it comes to while the reward's spread is not known."""
        if self.smallest_gain is not None and self.keep is not None:
            return (
                f"A rank has to keep {percent(self.keep)} of the best gain over the base policy. {self.means} can "
                f"judge that where the best gain is {figure(self.smallest_gain)} of the reward's spread or more "
                f"{LEAST}. {self._spread}{self._guards}"
            )
        return (
            f"A rank may lie {self.tolerance:g} below the best, in units of the reward. {self.means} can find equals "
            f"equal where the reward's spread is {figure(self.widest_spread or math.inf)} or less {LEAST}. "
            f"{self._spread}{self._guards}"
        )

    @property
    def _guards(self) -> str:
        if not self.guards:
            return ""
        told = " and ".join(f"{guard.name} by at most {guard.worse_by:g}" for guard in self.guards)
        return f" It may be worse in {told}, which takes seeds of its own: how many, the first looks will show."

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


LOOKS_FROM = 3
"""Seeds of the first look, where every seed is one."""
LEAST = f"(power {POWER:g}, if sampling were all the noise)"


def plan_verdict(config: StudyFile, *, held_out: int | None = None) -> VerdictPlan:
    """What a study's declared verdict can show.

    Args:
        config: The study.
        held_out: Held-out prompts that there are; default: as many as are declared.
    """
    guards: tuple[Guard, ...] = ()
    if config.verdict.guards:
        from sweep.storage.schema import CURRENT, rule_of  # numpy, which most plans do without

        guards = rule_of(config, CURRENT).guards
    verdict, prompts = config.verdict, min(config.task.held_out_prompts, held_out or config.task.held_out_prompts)
    seeds, confidence = verdict.seeds, 1 - (1 - verdict.confidence) * _last_share(verdict)
    # A single rank has no rival; the formulas need one, so it is planned for as if it had.
    rivals = max(1, len(config.search_space().r) - 1)
    keep = verdict.keep or 1.0
    # Per spread: the score, the rival's share, and what is left of the base policy's, which all ranks of a seed share.
    contrast_sd = math.sqrt((1 + keep**2 + (1 - keep) ** 2) / prompts)
    gap = contrast_sd * shown_gap(seeds, rivals, confidence)
    # The rank's own gain, a difference of two scores, is to be shown as well.
    own = math.sqrt(2 / prompts) * shown_gap(seeds, 1, confidence)
    return VerdictPlan(
        keep=verdict.keep,
        tolerance=verdict.tolerance,
        confidence=verdict.confidence,
        design=verdict.design,
        seeds=seeds,
        held_out_prompts=prompts,
        prompts_known=held_out is not None,
        smallest_gain=None if verdict.keep is None else max(own, gap / (1 - verdict.keep)),
        widest_spread=None if verdict.tolerance is None else verdict.tolerance / gap,
        samples=config.task.samples,
        guards=guards,
    )


def _last_share(verdict: VerdictSection) -> float:
    """The share of the error that the last look has as its own level: all that a reach counts on.

    Where every seed is a look, within a twentieth of that of the critical values (`sweep.statistics.spending`).
    """
    if verdict.design == "fixed":
        return 1 / verdict.looks
    return 1.0 if verdict.seeds <= LOOKS_FROM else 0.575 + 0.75 / verdict.seeds


def shown_gap(seeds: int, rivals: int, confidence: float) -> float:
    """The gap that so many seeds show against all rivals with the customary power, in contrasts' standard deviations.

    Within 3 % of `sweep.statistics.power.smallest_gap` from four seeds on, by the classical expansions of Student's t
    and its noncentral relative (Abramowitz and Stegun, 26.7.5 and 26.7.10): scipy takes longer to load than a plan.

    Args:
        seeds: At least 2.
        rivals: At least 1.
        confidence: Of each bound.
    """
    freedom = seeds - 1
    z = NormalDist().inv_cdf(confidence)
    critical = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    critical += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    each = NormalDist().inv_cdf(1 - (1 - POWER) / rivals)
    shift = critical * (1 - 1 / (4 * freedom)) + each * math.sqrt(1 + critical**2 / (2 * freedom))
    return shift / math.sqrt(seeds)
