"""A study as plain data: what `sweep show`, its JSON and the report all print."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from objectives.trial.messages import HeldOutScore
from sweep.errors import StorageError
from sweep.statistics.tuning import why_untuned
from sweep.storage import attributes
from sweep.storage.attributes import DESIGN, SEED
from sweep.storage.reference import Reference, read_reference
from sweep.storage.trials import wanted_trials
from sweep.study.pruners import pruner_warning
from sweep.study.space import alpha_of
from sweep.text import decimals_for

if TYPE_CHECKING:
    import optuna

    from sweep.study.file import StudyFile


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSummary:
    """One trial. `value` is its held-out reward at its end, None where it has none or a pruner ended it early."""

    number: int
    state: str
    r: int | None
    alpha: int | None
    learning_rate: float | None
    seed: int | None
    value: float | None
    reason: str | None
    greedy: float | None
    gain: float | None
    """The value less the base policy's under the same seed; None where either is not known."""
    collapsed: bool
    ended_early: bool
    design: bool
    added: bool
    """Whether somebody chose it by hand: ranks are compared without it."""
    seconds: float | None
    target_modules: str | None = None
    """The set of modules that had an adapter, where sets were searched."""
    use_rslora: bool | None = None
    """Whether alpha was divided by sqrt(r), where both scalings were searched."""
    adapter_parameters: int | None = None
    """Numbers in its adapter; None before it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSummary:
    """The trials of one rank that have a value. `mean` is over all of them, collapsed ones included."""

    r: int
    n: int
    mean: float
    mean_without_collapsed: float | None
    """None where every trial collapsed."""
    values: tuple[float, ...]
    collapsed: int
    ended_early: int
    """Trials besides these that a pruner ended."""
    best: TrialSummary
    tuned: bool
    """Whether it may be compared with the others. See `why_untuned`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySummary:
    """A study as it is stored. Trials that were lost and run again are left out."""

    study: str
    base: HeldOutScore | None
    """The base policy's held-out score, under the study's own seed."""
    trials: tuple[TrialSummary, ...]
    ranks: tuple[RankSummary, ...]
    config: StudyFile
    """As it was run."""
    facts: dict[str, Any]
    reference: Reference | None = None
    """What full fine-tuning came to, where somebody has asked."""

    @property
    def baseline(self) -> float | None:
        """The base policy's held-out reward."""
        return None if self.base is None else self.base.sampled

    @property
    def decimals(self) -> int:
        """With which the rewards of its trials are told apart."""
        return decimals_for([self.baseline, *(value for rank in self.ranks for value in rank.values)])

    @property
    def ended(self) -> int:
        """Trials that are neither waiting nor running."""
        return sum(trial.state in ("complete", "pruned", "fail") for trial in self.trials)

    @property
    def pruner_warning(self) -> str:
        """What pruning does to a comparison of ranks; empty where the search did not prune."""
        return pruner_warning(self.config.search.pruner)

    def as_json(self) -> dict[str, Any]:
        """What `sweep show --json` prints."""
        return {
            "study": self.study,
            "max_lora_rank": self.config.model.max_lora_rank,
            "engine_max_lora_rank": self.config.engine_max_lora_rank,
            "baseline": self.baseline,
            "pruner": self.config.search.pruner,
            **({} if self.reference is None else {"reference": self.reference.as_json()}),
            "trials": [_trial_json(trial) for trial in self.trials],
            "ranks": [
                {
                    "r": rank.r,
                    "n": rank.n,
                    "mean": rank.mean,
                    "mean_without_collapsed": rank.mean_without_collapsed,
                    "values": list(rank.values),
                    "collapsed": rank.collapsed,
                    "ended_early": rank.ended_early,
                    "tuned": rank.tuned,
                }
                for rank in self.ranks
            ],
        }


def _trial_json(trial: TrialSummary) -> dict[str, Any]:
    """A trial as JSON, without what was not searched."""
    left_out = {name for name in ("target_modules", "use_rslora") if getattr(trial, name) is None}
    # What an adapter costs is known by its rank, unless trials of one rank differ in it.
    left_out |= {"adapter_parameters"} if trial.target_modules is None else set()
    return {name: value for name, value in asdict(trial).items() if name not in left_out}


def stored_config(study: optuna.Study) -> StudyFile:
    """The settings that a stored study was run with.

    Raises:
        StorageError: where it holds none, or none that this version can read.
    """
    from pydantic import ValidationError

    from sweep.study.file import StudyFile

    try:
        return StudyFile.model_validate(study.user_attrs[attributes.CONFIG])
    except KeyError as error:
        raise StorageError(f"study {study.study_name!r} in storage was not made by `sweep run`") from error
    except ValidationError as error:
        raise StorageError(
            f"study {study.study_name!r} in storage was made by another version of rank-sweep"
        ) from error


def summarize(study: optuna.Study, stored: Sequence[optuna.trial.FrozenTrial] | None = None) -> StudySummary:
    """Reads a study.

    Args:
        study: The study.
        stored: Its wanted trials, where they have been read already.

    Raises:
        StorageError: where it was not made by `sweep run`.
    """
    config = stored_config(study)
    sets = config.space.target_modules or ()
    trials = tuple(
        _trial_summary(trial, sets) for trial in (wanted_trials(study, curves=False) if stored is None else stored)
    )
    base = study.user_attrs.get(attributes.BASELINE)
    return StudySummary(
        study=study.study_name,
        base=HeldOutScore(**base) if base else None,
        trials=trials,
        ranks=summarize_ranks(trials, points_per_rank=config.search.points_per_rank, sets=sets),
        config=config,
        facts=study.user_attrs.get(attributes.FACTS, {}),
        reference=read_reference(study),
    )


def summarize_ranks(
    trials: tuple[TrialSummary, ...], *, points_per_rank: int, sets: Sequence[str]
) -> tuple[RankSummary, ...]:
    """The ranks that have values, in ascending order, without what somebody chose by hand. See `why_untuned`."""
    ranks, trials = [], tuple(trial for trial in trials if not trial.added)
    for r in sorted({trial.r for trial in trials if trial.r is not None and trial.value is not None}):
        own = [trial for trial in trials if trial.r == r and trial.value is not None]
        values = tuple(trial.value for trial in own if trial.value is not None)
        learned = [trial.value for trial in own if trial.value is not None and not trial.collapsed]
        tried = {_choice(trial) for trial in own}
        collapsing = {_choice(trial) for trial in own if trial.collapsed}
        with_set = {name: sum(choice[2] == name for choice in tried) for name in sets}
        ranks.append(
            RankSummary(
                r=r,
                n=len(values),
                mean=math.fsum(values) / len(values),
                mean_without_collapsed=math.fsum(learned) / len(learned) if learned else None,
                values=values,
                collapsed=sum(trial.collapsed for trial in own),
                ended_early=sum(trial.r == r and trial.ended_early for trial in trials),
                best=own[values.index(max(values))],
                tuned=not why_untuned(tried, tried - collapsing, points_per_rank, with_set),
            )
        )
    return tuple(ranks)


def _choice(trial: TrialSummary) -> tuple[Any, ...]:
    """What was chosen for a trial besides its rank."""
    return trial.alpha, trial.learning_rate, trial.target_modules, trial.use_rslora


def _trial_summary(trial: optuna.trial.FrozenTrial, sets: Collection[str]) -> TrialSummary:
    target_set = trial.params.get("target_modules")
    attrs = trial.user_attrs
    score = attributes.last_score(attrs)
    return TrialSummary(
        number=trial.number,
        state=trial.state.name.lower(),
        r=trial.params.get("r"),
        alpha=alpha_of(trial.params),
        learning_rate=trial.params.get("learning_rate"),
        seed=attrs.get(SEED),
        value=None if score is None else score.sampled,
        reason=attrs.get(attributes.REASON),
        greedy=None if score is None else score.greedy,
        gain=attributes.gain(attrs),
        collapsed=bool(attrs.get(attributes.COLLAPSED)),
        ended_early=bool(attrs.get(attributes.ENDED_EARLY)),
        design=bool(attrs.get(DESIGN)),
        added=bool(attrs.get(attributes.ADDED)),
        seconds=None if trial.duration is None else trial.duration.total_seconds(),
        # Not what a storage from elsewhere may hold instead.
        target_modules=target_set if target_set in sets else None,
        use_rslora=trial.params.get("use_rslora"),
        adapter_parameters=attrs.get(attributes.COST, {}).get("adapter_parameters"),
    )
