"""How often each rule declares a rank that is too small or learned nothing, in studies whose truth is known.

`python -m sweep.statistics.simulate` prints the table. A simulated study draws confirmation scores around
a planted truth and hands them to the very functions that make a verdict; nothing of the rule is repeated
here. The search is drawn too, as one noisy estimate per rank, because the step-down starts from it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sweep.statistics import naive
from sweep.statistics.decision import Decision, step_down, weigh
from sweep.statistics.e_process import e_critical_values
from sweep.statistics.paired import BoolArray, FloatArray, IntArray
from sweep.statistics.rule import Rule
from sweep.statistics.sequential import stand
from sweep.statistics.spending import FIRST_LOOK, critical_values
from sweep.statistics.truths import Truth, planted_truths

NAIVE_RULES: dict[str, Callable[[FloatArray, Rule], IntArray]] = {
    "best trial": naive.best_trial,
    "maximum": naive.smallest_by_maximum,
    "mean": naive.smallest_by_mean,
    "largest": naive.smallest_against_largest,
}

_LEGEND = """\
verdict     step down from the rank the search favours, while ranks pass against every other rank
best trial  the rank of the single best trial
maximum     the smallest rank whose best trial is as good as the best trial
mean        the smallest rank whose mean is as good as the best mean
largest     step down while the paired t lower bound against the largest rank alone holds
found       the verdict names some rank; smallest: it names the smallest right one
dismissed   the verdict calls the next rank down worse although it is not
trials      that the verdict ran, on average"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a study is run and how noisy its trials are; the defaults are like the shipped tiny policy's."""

    rule: Rule
    seeds: tuple[int, ...] = (10,)
    """Seeds per rank at each look, ascending: a study is judged again with more seeds until it is settled.
    The promise holds when the rule declares that many looks."""
    seed_sd: float = 0.02
    """Standard deviation of the score between seeds."""
    base_sd: float = 0.015
    """Standard deviation of the base policy's score between seeds: of sampling alone. Ranks share it on a seed."""
    spreads: tuple[float, ...] = (1.0,)
    """Times that, for each rank of the ladder; one for all."""
    shared_variance: float = 0.0
    """Share of that variance that all ranks have in common on a seed, in [0, 1); pairing removes it."""
    search_sd: float = 0.02
    """Noise of the smoothed search estimate of a rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Shares of simulated studies, each in [0, 1]."""

    truth: Truth
    n_studies: int
    declared_wrongly: float
    """The verdict names a rank that is too small, learned nothing or collapses too often: at most 1 - confidence."""
    dismissed_wrongly: float
    """The verdict calls the next rank down worse although it is not: at most 1 - confidence."""
    found: float
    """The verdict names some rank."""
    found_smallest: float
    """The verdict names the smallest rank that is right to declare."""
    trials: float
    """Trials that a study ran, on average."""
    naive_wrongly: dict[str, float]
    """`declared_wrongly` of each naive rule, by its name."""


def simulate(truth: Truth, setting: Setting, n_studies: int, *, start: int | None = None, seed: int = 0) -> Rates:
    """Run many studies of one truth and count what is declared.

    Args:
        truth: what the ranks are really worth.
        setting: rule, seeds and noise.
        n_studies: simulated confirmation studies.
        start: position of the rank that the search favours in every study; drawn anew for each when None.
        seed: of the whole simulation.
    """
    rng = np.random.default_rng(seed)
    gains, collapsed = _draw_confirmation(truth, setting, n_studies, rng)
    smoothed = np.array(truth.means) + rng.normal(0.0, setting.search_sd, (n_studies, len(truth.means)))
    if start is not None:
        smoothed[:, start] = np.inf
    judge = _judge_until_settled if setting.rule.cap is None else _judge_seed_by_seed
    smallest, dismissed, trials = judge(truth, setting, gains, collapsed, smoothed)
    wrong = truth.wrong_to_declare(setting.rule)
    right = np.flatnonzero(~wrong)
    return Rates(
        truth=truth,
        n_studies=n_studies,
        # Both parts: -1, for no rank, looks up the largest.
        declared_wrongly=float(((smallest >= 0) & wrong[smallest]).mean()),
        dismissed_wrongly=float(dismissed.mean()),
        found=float((smallest >= 0).mean()),
        found_smallest=float((smallest == right[0]).mean()) if right.size else 0.0,
        trials=float(trials.mean()),
        naive_wrongly={
            name: float(wrong[choose(np.where(collapsed, -truth.base, gains), setting.rule)].mean())
            for name, choose in NAIVE_RULES.items()
        },
    )


def _judge_until_settled(
    truth: Truth, setting: Setting, gains: FloatArray, collapsed: BoolArray, smoothed: FloatArray
) -> tuple[IntArray, BoolArray, IntArray]:
    """The answer, whether a fine rank is called worse, and trials, at the last look; each of shape (n_studies,)."""
    n_studies, n_ranks, _ = gains.shape
    smallest, dismissed = np.full(n_studies, -1), np.zeros(n_studies, dtype=np.bool_)
    trials = np.zeros(n_studies, dtype=np.int64)
    settled = np.zeros(n_studies, dtype=np.bool_)
    for n_seeds in setting.seeds:
        trials = np.where(settled, trials, n_ranks * n_seeds)
        evidence = weigh(gains[..., :n_seeds], collapsed[..., :n_seeds], setting.rule)
        decision = step_down(evidence, smoothed, setting.rule)
        smallest = np.where(settled, smallest, decision.smallest)
        wrongly = _dismissed(decision, truth.wrong_to_dismiss(setting.rule))
        dismissed = np.where(settled, dismissed, wrongly)
        # A verdict that names the smallest rank, or shows the next one down worse, would not be asked for again.
        settled |= (decision.smallest == 0) | decision.shown_worse
    return smallest, dismissed, trials


def _judge_seed_by_seed(
    truth: Truth, setting: Setting, gains: FloatArray, collapsed: BoolArray, smoothed: FloatArray
) -> tuple[IntArray, BoolArray, IntArray]:
    """The same where seeds are added one by one, and only ranks that are needed go on."""
    n_studies, n_ranks, n_seeds = gains.shape
    smallest, dismissed = np.full(n_studies, -1), np.zeros(n_studies, dtype=np.bool_)
    ran, goes_on = np.zeros(gains.shape, dtype=np.bool_), np.arange(n_studies)
    needed = np.ones((n_studies, n_ranks), dtype=np.bool_)
    for k in range(1, n_seeds + 1):
        ran[goes_on, :, k - 1] = needed[goes_on]
        if k < FIRST_LOOK:
            continue
        seen = ran[goes_on, :, :k]
        evidence = weigh(np.where(seen, gains[goes_on, :, :k], np.nan), collapsed[goes_on, :, :k] & seen, setting.rule)
        decision = step_down(evidence, smoothed[goes_on], setting.rule)
        smallest[goes_on] = decision.smallest
        dismissed[goes_on] = _dismissed(decision, truth.wrong_to_dismiss(setting.rule))
        standing = stand(evidence, decision, setting.rule)
        needed[goes_on] &= standing.needed
        goes_on = goes_on[standing.goes_on(k, setting.rule)]
    return smallest, dismissed, ran.sum(axis=(1, 2))


def _draw_confirmation(
    truth: Truth, setting: Setting, n_studies: int, rng: np.random.Generator
) -> tuple[FloatArray, BoolArray]:
    """Gains and collapses, each of shape (n_studies, n_ranks, n_seeds)."""
    shape = (n_studies, len(truth.means), setting.seeds[-1])
    shared = rng.normal(0.0, setting.seed_sd * math.sqrt(setting.shared_variance), (n_studies, 1, shape[2]))
    own = rng.normal(0.0, setting.seed_sd * math.sqrt(1 - setting.shared_variance), shape)
    own *= np.array(setting.spreads)[:, None]
    collapsed = rng.random(shape) < np.array(truth.collapse_rates)[:, None]
    base = rng.normal(0.0, setting.base_sd, (n_studies, 1, shape[2]))
    return truth.gains[:, None] + shared + own - base, collapsed


def _dismissed(decision: Decision, fine: BoolArray) -> BoolArray:
    """Studies that call a fine rank worse; `fine` has shape (n_ranks,), the answer (n_studies,)."""
    # Shifted by one, so that entry i is of the ranks below i.
    some_fine_below = np.concatenate([[False], np.logical_or.accumulate(fine)])[decision.smallest]
    # Without a next rank down, every rank below the answer left the ladder, and all of them are dismissed.
    dismissed_fine = np.where(decision.next_down >= 0, fine[decision.next_down], some_fine_below)
    return np.asarray(decision.shown_worse & dismissed_fine)


def format_table(rates: Sequence[Rates]) -> str:
    """One line per truth, every number a percentage of studies, and a legend."""
    columns = ["verdict", *NAIVE_RULES, "found", "smallest", "dismissed", "trials"]
    lines = [
        f"{'':26}{'declares a rank that is too small, unlearned or collapses':^54}{'the verdict':>16}",
        f"{'truth':26}" + "".join(f"{name:>10}" for name in columns),
    ]
    for row in rates:
        values = [
            row.declared_wrongly,
            *row.naive_wrongly.values(),
            row.found,
            row.found_smallest,
            row.dismissed_wrongly,
        ]
        shares = "".join(f"{100 * value:9.1f}%" for value in values)
        lines.append(f"{row.truth.name:26}{shares}{row.trials:10.1f}")
    return "\n".join([*lines, "", _LEGEND])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m sweep.statistics.simulate", description=__doc__)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies per truth")
    parser.add_argument("--seeds", type=int, nargs="+", help="a fixed design: seeds per rank, at each look")
    parser.add_argument("--cap", type=int, default=14, help="without --seeds: seeds at most, added one by one")
    parser.add_argument("--e-values", action="store_true", help="without --seeds: looks by an e-process")
    parser.add_argument("--looks", type=int, help="looks that the rule declares; default: those that are taken")
    parser.add_argument("--seed-sd", type=float, default=0.02, help="standard deviation of scores between seeds")
    parser.add_argument("--base-sd", type=float, default=0.015, help="the same of the base policy's scores")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--keep", type=float, default=0.85, help="share of the best gain that is as good as the best")
    asked.add_argument("--tolerance", type=float, help="instead, a distance from the best")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--collapse-limit", type=float, default=0.35)
    given = parser.parse_args(arguments)
    rule = Rule(
        keep=None if given.tolerance else given.keep,
        tolerance=given.tolerance,
        confidence=given.confidence,
        collapse_limit=given.collapse_limit,
        looks=given.looks or len(given.seeds) if given.seeds else 1,
        critical=() if given.seeds else _critical(given),
    )
    setting = Setting(
        rule=rule,
        seeds=tuple(given.seeds or [given.cap]),
        seed_sd=given.seed_sd,
        base_sd=given.base_sd,
        search_sd=given.seed_sd,
    )
    rates = [simulate(truth, setting, given.studies) for truth in planted_truths(rule)]
    print(format_table(rates))


def _critical(given: argparse.Namespace) -> tuple[float, ...]:
    by = e_critical_values if given.e_values else critical_values
    return by(given.cap, given.confidence)


if __name__ == "__main__":
    main()
