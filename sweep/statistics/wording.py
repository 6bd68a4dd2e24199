"""The reason for a verdict, as one plain sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sweep.statistics.assessment import Assessment, Outcome
from sweep.statistics.confirmation import Confirmation
from sweep.statistics.power import MOST_SEEDS

NOTHING_TUNED = "No rank was tuned, so there is nothing to compare."


def explain(assessment: Assessment, seeds_needed: int | None) -> str:
    """Say what was found, what is below it, what would settle the rest, and which ranks were left out.

    Args:
        assessment: of the confirmation.
        seeds_needed: total seeds per rank that would likely settle what is open; None for no such advice.
    """
    found = assessment.outcome is not Outcome.UNDECIDED
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
    outcome, tolerance = assessment.outcome, assessment.rule.tolerance
    shown_worse = outcome is Outcome.FOUND_AND_SMALLER_SHOWN_WORSE
    standing = "the smallest rank" if shown_worse and not _unreached(assessment) else "shown to be"
    r = assessment.r(assessment.smallest)
    clause = f"r={r} is {standing} within {tolerance:g} of the best ({_basis(assessment, assessment.smallest)})"
    return [clause, _below(assessment)]


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
        gap = f"more than {assessment.rule.tolerance:g} below r={assessment.r(assessment.start)}"
        unreached = _unreached(assessment)
        beyond = f", and {' and '.join(unreached)} below it {_was(unreached)} not reached" if unreached else ""
        return f"the next rank down, {below}, is shown to be {gap}{beyond}"
    return f"whether {below} would do is open: it {_doubt(assessment, next_down)}"


def _unreached(assessment: Assessment) -> list[str]:
    """The judged ranks below the one that the step-down stopped at, unless they are shown to be too low as well."""
    upper, tolerance = assessment.evidence.bounds.upper[:, assessment.start], assessment.rule.tolerance
    lower = [i for i in range(assessment.next_down) if assessment.decision.judged[i]]
    return [f"r={assessment.r(i)}" for i in lower if not upper[i] < -tolerance]


def _was(names: Sequence[object]) -> str:
    return "was" if len(names) == 1 else "were"


def _undecided(assessment: Assessment) -> list[str]:
    if not assessment.comparable:
        return [f"Only r={assessment.r(0)} was tuned, so there is nothing to compare it with"]
    start = assessment.start
    if start < 0:
        return ["No rank can be recommended: all are shown to collapse too often"]
    favourite = f"r={assessment.r(start)}, which the search favours,"
    return [f"Undecided ({_basis(assessment, start)}): {favourite} {_doubt(assessment, start)}"]


def _advice(assessment: Assessment, seeds_needed: int | None) -> list[str]:
    """What to do about the open rank, where more seeds are or might have been the remedy."""
    if seeds_needed is not None:
        return [f"about {seeds_needed} seeds per rank would likely settle it"]
    rank = assessment.open_rank
    if rank < 0 or int(assessment.confirmation.n_alive[rank]) < 2:
        return []
    better = _looks_better(assessment)
    if assessment.smallest < 0 and better >= 0:
        tolerance = assessment.rule.tolerance
        return [f"r={assessment.r(better)} looks more than {tolerance:g} better: search on before adding seeds"]
    return [f"it is too close to call: {MOST_SEEDS} seeds per rank would likely not settle it"]


def _looks_better(assessment: Assessment) -> int:
    """The judged rank whose mean is furthest ahead of the start, if by more than the tolerance; else -1."""
    # A pair without a shared seed has no mean difference; zero keeps it out of the running.
    mean = np.nan_to_num(assessment.evidence.bounds.mean[assessment.start])
    ahead = [j for j in assessment.rivals(assessment.start) if mean[j] < -assessment.rule.tolerance]
    return min(ahead, key=lambda j: float(mean[j]), default=-1)


def _doubt(assessment: Assessment, position: int) -> str:
    """What kept a rank from passing; follows the rank's name."""
    reasons = []
    if not assessment.decision.score_passes[position]:
        rival = assessment.worst_rival(position)
        bound = float(assessment.evidence.bounds.lower[position, rival])
        behind = f"could be {-bound:.2g} below r={assessment.r(rival)}"
        reasons.append(behind if math.isfinite(bound) else "has too few seeds to be compared")
    if not assessment.evidence.within[position]:
        seen = count_collapses(assessment.confirmation, position)
        reasons.append(f"{seen}, which does not show a rate of at most {assessment.rule.collapse_limit:g}")
    return " and ".join(reasons)


def _basis(assessment: Assessment, position: int) -> str:
    n_seeds = int(assessment.confirmation.n_alive[position])
    return f"{100 * assessment.rule.confidence:g} % confidence, {_count_seeds(n_seeds)}"


def _count_seeds(n_seeds: int) -> str:
    return f"{n_seeds} seed" if n_seeds == 1 else f"{n_seeds} seeds"
