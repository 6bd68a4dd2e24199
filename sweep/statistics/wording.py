"""The reason for a verdict, as one plain sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sweep.statistics.assessment import Assessment, Outcome
from sweep.statistics.confirmation import Confirmation
from sweep.statistics.decision import falls_short, scores_fall_short
from sweep.statistics.guards import guards_broken
from sweep.statistics.noise import sampling_error
from sweep.statistics.power import MOST_SEEDS, smallest_gap
from sweep.statistics.rule import Rule
from sweep.text import figure, percent

TRY = "try higher learning rates, more steps, or a reward in which `sweep try-reward` sees signal"
NOTHING_TUNED = "No rank was tuned, so there is nothing to compare."


def explain(assessment: Assessment, seeds_needed: int | None) -> str:
    """Say what was found, what is below it, what would settle the rest, and which ranks were left out.

    Args:
        assessment: of the confirmation.
        seeds_needed: total seeds per rank that would likely settle what is open; None for no such advice.
    """
    found = assessment.smallest >= 0
    clauses = _found(assessment) if found else _undecided(assessment)
    clauses += _advice(assessment, seeds_needed)
    for i, configuration in enumerate(assessment.confirmation.frozen):
        if not assessment.decision.judged[i]:
            clauses.append(f"r={configuration.r} is not compared: it {count_collapses(assessment.confirmation, i)}")
    told = assessment.untuned_below if found else ()
    untuned = [f"r={rank.r}" for rank in assessment.confirmation.untuned if rank.r not in told]
    if untuned and assessment.comparable:
        clauses.append(f"{' and '.join(untuned)} {_was(untuned)} not tuned like the others and so not compared")
    return "; ".join(clauses) + "."


def count_collapses(confirmation: Confirmation, position: int) -> str:
    """Say how often a rank collapsed; follows the rank's name."""
    n_collapsed, n_ran = int(confirmation.n_collapsed[position]), int(confirmation.n_ran[position])
    return f"collapsed in {n_collapsed} of {_count_seeds(n_ran)}"


def _found(assessment: Assessment) -> list[str]:
    shown_worse = assessment.outcome is Outcome.FOUND_AND_SMALLER_SHOWN_WORSE
    smallest = shown_worse and not _unreached(assessment)
    r = assessment.r(assessment.smallest)
    clause = f"r={r} is {_as_good(assessment.rule, smallest=smallest)} ({_basis(assessment, assessment.smallest)})"
    return [clause, _below(assessment)]


def _as_good(rule: Rule, *, smallest: bool) -> str:
    """What is claimed of the answer; follows its name and `is`."""
    if rule.keep is None:
        return f"{'the smallest rank' if smallest else 'shown to be'} within {rule.tolerance:g} of the best"
    # Short enough for what follows, the confidence and the seeds, to stand on the first line of a terminal.
    return f"{'the smallest' if smallest else 'shown'} to keep {percent(rule.keep)} of the best gain"


def _below(assessment: Assessment) -> str:
    """What is known about the ranks under the answer."""
    untuned, next_down = assessment.untuned_below, assessment.next_down
    if untuned:
        return f"{' and '.join(f'r={r}' for r in untuned)} below it {_was(untuned)} not tuned and so not judged"
    if assessment.smallest == 0:
        return "no smaller rank was tried"
    if next_down < 0:
        return "every smaller rank is shown to collapse too often"
    below = f"r={assessment.r(next_down)}"
    if assessment.decision.shown_worse:
        short = _short_of_start(assessment, next_down)
        unreached = _unreached(assessment)
        beyond = f", and {' and '.join(unreached)} below it {_was(unreached)} not reached" if unreached else ""
        return f"the next rank down, {below}, is shown to {short}{beyond}"
    return f"whether {below} would do is open: it {_doubt(assessment, next_down)}"


def _short_of_start(assessment: Assessment, position: int) -> str:
    """What a rank is shown to be, held against the start."""
    rule, start = assessment.rule, f"r={assessment.r(assessment.start)}"
    if not scores_fall_short(assessment.evidence, assessment.decision.start, rule)[position]:
        broken = guards_broken(assessment.evidence.guards, rule.guards, assessment.decision.start)[:, position]
        guards = [f"{g.worse_by:g} in {g.name}" for g, is_broken in zip(rule.guards, broken, strict=True) if is_broken]
        return f"be worse than {start} by more than {' and '.join(guards)}"
    if rule.keep is None:
        return f"be more than {rule.tolerance:g} below {start}"
    return f"keep less than {percent(rule.keep)} of that of {start}"


def _unreached(assessment: Assessment) -> list[str]:
    """The judged ranks below the one that the step-down stopped at, unless they are shown to be too low as well."""
    short = falls_short(assessment.evidence, assessment.decision.start, assessment.rule)
    lower = [i for i in range(assessment.next_down) if assessment.decision.judged[i]]
    return [f"r={assessment.r(i)}" for i in lower if not short[i]]


def _was(names: Sequence[object]) -> str:
    return "was" if len(names) == 1 else "were"


def _undecided(assessment: Assessment) -> list[str]:
    if not assessment.comparable:
        return [f"Only r={assessment.r(0)} was tuned, so there is nothing to compare it with"]
    start = assessment.start
    if start < 0:
        return ["No rank can be recommended: all are shown to collapse too often"]
    if assessment.outcome is Outcome.NOTHING_LEARNED:
        return _nothing_learned(assessment)
    if assessment.gain_is_open:
        return [_open_gain(assessment)]
    if _none_seems_to_gain(assessment):
        seen = "no rank's mean reward is above the base policy's, so nothing is seen to be learned yet"
        return [f"Undecided ({_basis(assessment, start)}): {seen}"]
    favourite = f"r={assessment.r(start)}, which the search favours,"
    return [f"Undecided ({_basis(assessment, start)}): {favourite} {_doubt(assessment, start)}"]


def _none_seems_to_gain(assessment: Assessment) -> bool:
    """Whether the verdict is undecided, and no judged rank's mean is above the base policy's.

    With fewer seeds than it takes to show that collapse is rare, no rank can pass, whatever it has learned. The outcome
    is then undecided where more seeds would make it "nothing learned".
    """
    if assessment.outcome is not Outcome.UNDECIDED or not assessment.comparable or assessment.start < 0:
        return False
    if assessment.gain_is_open or not assessment.rule.gains:
        return False
    bounds, judged = assessment.evidence.bounds, assessment.decision.judged
    # A mean of one seed is no mean: nothing is said of what it seems to show.
    known = judged & (np.diagonal(bounds.n_seeds) > 1)
    gains = np.nan_to_num(np.diagonal(bounds.mean))
    return bool(known.any()) and not bool((judged & (gains > assessment.evidence.rounding)).any())


def _open_gain(assessment: Assessment) -> str:
    """That no rank is shown to beat the base policy yet, and what the likeliest one may have gained."""
    bounds, judged = assessment.evidence.bounds, np.flatnonzero(assessment.decision.judged).tolist()
    known = [i for i in judged if bounds.n_seeds[i, i] > 1]
    likeliest = max(known, key=lambda i: float(bounds.upper[i, i]))
    low, high = (figure(float(side[likeliest, likeliest])) for side in (bounds.lower, bounds.upper))
    return (
        f"Undecided ({_basis(assessment, assessment.start)}): no rank is shown to beat the base policy yet, and "
        f"r={assessment.r(likeliest)} may: its gain is between {low} and {high}"
    )


def _nothing_learned(assessment: Assessment) -> list[str]:
    """That no rank beats the base policy, what could have been seen, and what to change."""
    clauses = [f"Nothing learned ({_basis(assessment, assessment.start)}): no rank is shown to beat the base policy"]
    bounds, rounding = assessment.evidence.bounds, assessment.evidence.rounding
    judged = np.flatnonzero(assessment.decision.judged).tolist()
    worse = [f"r={assessment.r(i)}" for i in judged if bounds.upper[i, i] < -rounding]
    if worse:
        clauses.append(f"{' and '.join(worse)} {_was(worse)} shown to fall below it: try lower learning rates")
    else:
        clauses.append(TRY)
    known = [(float(bounds.sd[i, i]), int(bounds.n_seeds[i, i])) for i in judged if bounds.n_seeds[i, i] > 1]
    # Policies that sample alike hide how far apart two that differ would lie on so many prompts.
    least = _least_noise(assessment.confirmation)
    noisy = [(max(sd, least), n) for sd, n in known]
    seen = [smallest_gap(sd, n, 1, assessment.rule.bound_confidence) for sd, n in noisy if sd > rounding]
    if seen:
        clauses.append(f"a gain of {figure(min(seen))} or more would likely have been seen")
    return clauses


def _least_noise(confirmation: Confirmation) -> float:
    """What the sampling of prompts and completions alone does to a gain between seeds; 0 where it is not known."""
    if confirmation.spread is None or confirmation.prompts is None:
        return 0.0
    return sampling_error(confirmation.spread, confirmation.prompts)


def _advice(assessment: Assessment, seeds_needed: int | None) -> list[str]:
    """What to do about the open rank, where more seeds are or might have been the remedy."""
    if seeds_needed is not None:
        end = "tell, as it looks now" if assessment.gain_is_open else "settle it"
        return [f"about {seeds_needed} seeds per rank would likely {end}"]
    rank = assessment.open_rank
    if _none_seems_to_gain(assessment):
        return [f"before adding seeds, {TRY}"]
    if assessment.outcome is Outcome.NOTHING_LEARNED or rank < 0 or int(assessment.confirmation.n_alive[rank]) < 2:
        return []
    better = -1 if assessment.gain_is_open else _looks_better(assessment)
    if assessment.smallest < 0 and better >= 0:
        by = "too far ahead" if assessment.rule.tolerance is None else f"more than {assessment.rule.tolerance:g} better"
        return [f"r={assessment.r(better)} looks {by}: search on before adding seeds"]
    return [f"it is too close to call: {MOST_SEEDS} seeds per rank would likely not settle it"]


def _looks_better(assessment: Assessment) -> int:
    """The judged rank that the start falls short of by the most, as it looks; -1 where it does of none."""
    # A pair without a shared seed has no mean difference; zero keeps it out of the running.
    mean = np.nan_to_num(assessment.evidence.bounds.mean[assessment.start])
    ahead = [j for j in assessment.rivals(assessment.start) if mean[j] < -assessment.rule.margin]
    return min(ahead, key=lambda j: float(mean[j]), default=-1)


def _doubt(assessment: Assessment, position: int) -> str:
    """What kept a rank from passing; follows the rank's name."""
    reasons = []
    if not assessment.evidence.learned[position]:
        reasons.append(_gain_doubt(assessment, position))
    elif not assessment.decision.score_passes[position]:
        reasons.append(_rival_doubt(assessment, position))
    start = f"r={assessment.r(assessment.start)}"
    still_open = [assessment.rule.guards[i] for i in assessment.guards_open(position)]
    reasons += [f"could be worse than {start} by more than {g.worse_by:g} in {g.name}" for g in still_open]
    if not assessment.evidence.within[position]:
        seen = count_collapses(assessment.confirmation, position)
        reasons.append(f"{seen}, which does not show a rate of at most {assessment.rule.collapse_limit:g}")
    return " and ".join(reasons)


def _gain_doubt(assessment: Assessment, position: int) -> str:
    known = math.isfinite(float(assessment.evidence.bounds.lower[position, position]))
    return "is not shown to beat the base policy" if known else "has too few seeds to be compared"


def _rival_doubt(assessment: Assessment, position: int) -> str:
    rival, rule = assessment.worst_rival(position), assessment.rule
    bound = float(assessment.evidence.bounds.lower[position, rival])
    if not math.isfinite(bound):
        return "has too few seeds to be compared"
    name = f"r={assessment.r(rival)}"
    if rule.keep is not None:
        return f"could keep less than {percent(rule.keep)} of the gain of {name}"
    return f"could be {figure(-bound)} below {name}"


def _basis(assessment: Assessment, position: int) -> str:
    n_seeds = int(assessment.confirmation.n_alive[position])
    return f"{percent(assessment.rule.confidence)} confidence, {_count_seeds(n_seeds)}"


def _count_seeds(n_seeds: int) -> str:
    return f"{n_seeds} seed" if n_seeds == 1 else f"{n_seeds} seeds"
