"""Confirmation: one frozen configuration per rank, every rank on the same fresh seeds, stored apart from the search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from objectives.trial.messages import HeldOutScore
from sweep.confirmation.naming import confirmation_study, first_seed_of, generation_named
from sweep.confirmation.scores import ConfirmationTrials
from sweep.confirmation.seed_by_seed import only_counted, progress_of
from sweep.errors import NothingToConfirmError
from sweep.statistics.confirmation import Confirmation
from sweep.statistics.horizon import Horizon, judge_horizon
from sweep.statistics.power import step_power
from sweep.statistics.rule import Rule
from sweep.statistics.smoothing import (
    FrozenConfiguration,
    SearchPoint,
    SmoothedSearch,
    UntunedRank,
    freeze_configurations,
)
from sweep.statistics.verdict import Verdict, judge
from sweep.storage.attributes import CRITICAL, FROZEN, LOOKS
from sweep.storage.schema import rule_of, schema_of
from sweep.storage.summary import StudySummary, stored_config
from sweep.study.file import StudyFile

if TYPE_CHECKING:
    import optuna

UNSCORED_APART = 0.05
"""How far a rank's share of completions without a reward may lie from the base policy's before a warning."""
HORIZON = (0.25, 0.5, 1.0)
"""Shares of the budget after which ranks are compared: people train longer than a sweep does."""


def search_points(summary: StudySummary) -> list[SearchPoint]:
    """The search's scored trials, without what somebody chose by hand."""
    return [
        SearchPoint(
            r=trial.r,
            alpha=trial.alpha,
            learning_rate=trial.learning_rate,
            score=trial.value,
            collapsed=trial.collapsed,
            target_modules=trial.target_modules,
            use_rslora=trial.use_rslora,
        )
        for trial in summary.trials
        if not trial.added
        if trial.value is not None and trial.r and trial.alpha and trial.learning_rate
    ]


def freeze(summary: StudySummary, config: StudyFile) -> SmoothedSearch:
    """One configuration for each rank that was tuned like the others: the best smoothed search estimate.

    Raises:
        NothingToConfirmError: where the search has nothing to confirm.
    """
    points = search_points(summary)
    # Of no points at all this is true as well.
    if all(point.collapsed for point in points):
        raise NothingToConfirmError(f"study {summary.study!r} has no trial to confirm: run it first, `sweep run`")
    sets = config.space.target_modules or ()
    return freeze_configurations(points, config.search_space().r, config.search.points_per_rank, sets)


def store_frozen(study: optuna.Study, search: SmoothedSearch) -> SmoothedSearch:
    """Stores what is frozen, once trials rest on it: a search that goes on does not change what is being confirmed."""
    if FROZEN not in study.user_attrs or not study.get_trials(deepcopy=False):
        stored = asdict(search)
        for item, frozen in zip(stored["frozen"], search.frozen, strict=True):
            # Left out where they were not searched, as in studies from before they could be.
            for name in {"target_modules", "use_rslora"} - frozen.point.keys():
                del item[name]
        study.set_user_attr(FROZEN, stored)
    return stored_frozen(study)


def stored_frozen(study: optuna.Study) -> SmoothedSearch:
    """What a confirmation has frozen, as it stood when its first trial ran."""
    stored = study.user_attrs[FROZEN]
    return SmoothedSearch(
        frozen=tuple(FrozenConfiguration(**item) for item in stored["frozen"]),
        untuned=tuple(UntunedRank(**item) for item in stored["untuned"]),
        noise_sd=stored["noise_sd"],
    )


def horizon_steps(steps: int) -> dict[float, int]:
    """The step that each share of the budget ends with."""
    return {share: max(1, round(share * steps)) for share in HORIZON}


def expected_power(search: SmoothedSearch, rule: Rule, *, seeds: int, base: HeldOutScore | None) -> float:
    """The chance that a rank exactly as good as all others is found to be, as the search has it; nan if unknown.

    Args:
        search: Its noise and its best smoothed estimate are taken for the truth.
        rule: As declared.
        seeds: A rank.
        base: The base policy's score.
    """
    if not math.isfinite(search.noise_sd) or len(search.frozen) < 2 or (base is None and rule.gains):
        return math.nan
    best = max(frozen.smoothed for frozen in search.frozen)
    return step_power(
        rule,
        gain=best - base.sampled if base is not None and rule.gains else math.nan,
        noise_sd=search.noise_sd,
        n_seeds=seeds,
        n_rivals=len(search.frozen) - 1,
        base_sd=(base.spread or 0.0) / math.sqrt(base.prompts) if base is not None else 0.0,
    )


def count_look(study: optuna.Study, seeds: int) -> None:
    """Remembers that a verdict was asked for at this number of seeds."""
    # A second call at the same number of seeds sees the same trials: no further look.
    looks = study.user_attrs.get(LOOKS, [])
    if seeds not in looks:
        study.set_user_attr(LOOKS, [*looks, seeds])


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """What a confirmation has come to so far."""

    study: optuna.Study
    """Holds the confirmation's trials."""
    rule: Rule
    verdict: Verdict
    horizon: Horizon
    confirmation: Confirmation
    seeds: int
    """Seeds for which every judged rank has ended."""
    looks: tuple[int, ...]
    """Numbers of seeds that a verdict was asked for at."""
    unscored: Mapping[int, float | None]
    """Share of each judged rank's held-out completions without a reward; None where none of its trials counts."""
    base_unscored: float | None
    """The base policy's share; None where it was not scored under the seeds."""
    warnings: tuple[str, ...]
    """What whoever relies on the verdict has to know, one sentence each."""
    ending: str
    """Why no further seed is run; empty where all are run, or more may come."""

    @property
    def answer(self) -> FrozenConfiguration | None:
        """The configuration of the verdict's rank; None where it names none."""
        return next((frozen for frozen in self.confirmation.frozen if frozen.r == self.verdict.r), None)


def stored_confirmation(search: optuna.Study) -> Confirmed | None:
    """What a search's confirmation has come to; None where it has none, or none to judge by yet.

    Raises:
        StorageError: where the search was not made by `sweep run`.
    """
    study = confirmation_study(search)
    return None if study is None else read_confirmation(study, stored_config(search))


def read_confirmation(study: optuna.Study, config: StudyFile) -> Confirmed | None:
    """The verdict over the seeds that may be judged; None before there are any.

    Where all seeds are run, those are the seeds of the last look: to judge by others that have come since would be a
    look that nobody declared.
    """
    if FROZEN not in study.user_attrs:
        return None
    search, trials = stored_frozen(study), ConfirmationTrials.read(study)
    rule = rule_of(config, schema_of(study), critical=study.user_attrs.get(CRITICAL, ()))
    generation, looks, ending = generation_named(study.study_name), tuple[int, ...](study.user_attrs.get(LOOKS, ())), ""
    if rule.cap is None:
        seeds: Sequence[int] = trials.seeds(max(looks)) if looks else ()
        counted = np.ones((len(search.frozen), len(seeds)), dtype=np.bool_)
    else:
        first = config.study.seed + first_seed_of(generation)
        all_seeds = range(first, first + rule.cap)
        progress = progress_of(trials, search, rule, seeds=all_seeds, step=config.budget.steps)
        seeds, counted, ending = progress.seeds, progress.counted, progress.ending(rule)
        looks = tuple(range(rule.first_look, len(seeds) + 1))
    if not seeds:
        return None
    # The same trials at parts of their budget: their scores on the way were taken for this.
    by_share = {
        share: only_counted(trials.confirmation(search, seeds, rule, step=step), counted)
        for share, step in horizon_steps(config.budget.steps).items()
    }
    missing = counted & [[not trials.has(frozen.r, seed) for seed in seeds] for frozen in search.frozen]
    unscored = {f.r: trials.unscored_share(f.r, seeds, step=config.budget.steps) for f in search.frozen}
    base_unscored = trials.base_unscored_share(seeds) if rule.gains else None
    warnings = [
        *_extension_warning(generation, rule),
        *_warnings(looks, rule, missing=int(missing.sum()), trials=int(counted.sum())),
        *_unscored_warnings(unscored, base_unscored),
    ]
    return Confirmed(
        study=study,
        rule=rule,
        verdict=judge(by_share[1.0], rule),
        horizon=judge_horizon(by_share, rule),
        confirmation=by_share[1.0],
        seeds=int((~missing).all(axis=0).sum()),
        looks=looks,
        unscored=unscored,
        base_unscored=base_unscored,
        warnings=tuple(warnings),
        ending=ending,
    )


def _extension_warning(generation: int, rule: Rule) -> Iterator[str]:
    if generation:
        yield (
            f"the ladders were made longer after an earlier confirmation: this is confirmation {generation + 1}, on "
            f"fresh seeds, and each one may be wrong with a chance of up to {100 * (1 - rule.confidence):g} %"
        )


def _warnings(looks: tuple[int, ...], rule: Rule, *, missing: int, trials: int) -> Iterator[str]:
    if missing:
        yield f"{missing} of {trials} confirmation trials failed and are missing here; `sweep confirm` runs them again"
    if rule.cap is None and len(looks) > rule.looks:
        yield (
            f"this is look {len(looks)} at a verdict declared for {rule.looks} (verdict.looks): the chance of a wrong "
            f"answer is above {100 * (1 - rule.confidence):g} %"
        )


def _unscored_warnings(unscored: Mapping[int, float | None], base: float | None) -> Iterator[str]:
    for r, share in unscored.items():
        if share is not None and base is not None and abs(share - base) > UNSCORED_APART:
            yield (
                f"r={r}: {100 * share:.0f} % of its held-out completions have no reward (base policy: {100 * base:.0f} "
                "%): gains are over different prompts"
            )
