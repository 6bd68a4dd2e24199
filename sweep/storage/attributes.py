"""What is stored of a trial, under which names, besides what Optuna stores by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives.trial.messages import EffectiveRank, HeldOutScore, Ready, StepMetrics, TrialResult

if TYPE_CHECKING:
    import optuna

CONFIG = "config"
"""Study attribute: the study file as it was resolved, so that a changed one is noticed."""
SCHEMA = "schema"
"""Study attribute: the number of the rules that it was begun under (`sweep.storage.schema`)."""
SOURCES = "sources"
"""Study attribute: the hash of every file of the user's own, by its name."""
FROZEN = "frozen"
"""Study attribute of a confirmation: what stands for each rank, and which ranks are not judged."""
CRITICAL = "critical"
"""Study attribute of a confirmation: critical values by number of pairs, where it adds seeds one by one."""
LOOKS = "looks"
"""Study attribute of a confirmation: the numbers of seeds that a verdict has been asked for at, in order."""
EXTENSIONS = "extensions"
"""Study attribute: what each `sweep extend` found and made, in order (`sweep.storage.ladders`)."""
WRITER = "writer"
"""Study attribute, on a server: the process that writes it, or wrote it last."""
BASELINE = "baseline"
"""Study attribute: the base policy's held-out score."""
FACTS = "facts"
"""Study attribute: versions and hardware of the newest worker, how many trials it runs at once, and how many workers
the study has at most."""
BASE = "base"
"""Trial attribute: the base policy's held-out score, sampled with the trial's own seed."""
SCORES = "scores"
"""Trial attribute: held-out scores along the budget, the last one last."""
REASON = "reason"
"""Trial attribute: why a trial failed, was pruned or counts as collapsed."""
COLLAPSED = "collapsed"
"""Trial attribute: whether the trial collapsed."""
ENDED_EARLY = "ended_early"
"""Trial attribute: set where a pruner ended the trial, so that its last score is not one of the whole budget."""
CURVE = "curve"
"""Trial attribute: every step's metrics, as columns."""
COST = "cost"
"""Trial attribute: steps, tokens, adapter parameters and seconds by what they were spent on."""
SEED = "seed"
"""Trial attribute: the trial's seed. Repetition k of a point has the study's seed plus k."""
DESIGN = "design"
"""Trial attribute: set on trials that belong to the design."""
REDONE = "redone"
"""Trial attribute: set on failed trials whose point was queued again."""
ADDED = "added"
"""Trial attribute: set on trials that somebody chose by hand; ranks are compared without them."""
DROPPED = "dropped"
"""Trial attribute: set on trials that somebody wants to end."""
ALPHA = "alpha"
"""Trial attribute: lora_alpha, where it was searched in multiples of r."""
WORKER = "worker"
"""Trial attribute: the worker that ran the trial: its process id, with its machine before it where that is another."""
LOG = "log"
"""Trial attribute: the trial's log file."""
EFFECTIVE_RANKS = "effective_ranks"
"""Trial attribute: of each kind of module, the stable rank of its update and how many ranks hold 90 % of its energy."""
ADAPTER = "adapter"
"""Trial attribute: the PEFT folder that holds the trained adapter, where the study keeps them."""


def in_log_folder(stored: str, logs: Path) -> Path:
    """Where a stored path leads today: to what has its name in the log folder, and to nothing else.

    A storage that was moved names the old folder, and one that came from elsewhere could name any file of this machine.
    """
    return logs / Path(stored).name


def record_ready(study: optuna.Study, ready: Ready, *, slots: int, workers: int) -> None:
    """Stores what a worker measured and is, before its first trial."""
    study.set_user_attr(BASELINE, asdict(ready.baseline))
    study.set_user_attr(FACTS, {**ready.facts, "slots": slots, "workers": workers})


def record_result(trial: optuna.Trial, result: TrialResult, curve: Sequence[StepMetrics]) -> None:
    """Stores what a trial measured."""
    trial.set_user_attr(SCORES, [asdict(score) for score in result.scores])
    trial.set_user_attr(CURVE, curve_columns(curve))
    cost = {"steps": result.steps, "tokens": result.tokens, "adapter_parameters": result.adapter_parameters}
    trial.set_user_attr(COST, cost | {"seconds": dict(result.seconds)})
    if result.base is not None:
        trial.set_user_attr(BASE, asdict(result.base))
    if result.effective_ranks:
        found = {kind: [_rounded(own.stable), _rounded(own.energy)] for kind, own in result.effective_ranks.items()}
        trial.set_user_attr(EFFECTIVE_RANKS, found)
    if result.adapter is not None:
        trial.set_user_attr(ADAPTER, result.adapter)


def curve_columns(curve: Sequence[StepMetrics]) -> dict[str, list[Any]]:
    """Steps as columns, numbers rounded to what was measured of them; columns that nobody measured are left out."""
    columns = {
        column.name: [_rounded(getattr(metrics, column.name)) for metrics in curve]
        for column in fields(StepMetrics)
        if column.name not in ("rewards", "reward_stds")
    }
    for name in dict.fromkeys(name for metrics in curve for name in metrics.rewards):
        columns[f"reward:{name}"] = [_rounded(metrics.rewards.get(name)) for metrics in curve]
        columns[f"reward_std:{name}"] = [_rounded(metrics.reward_stds.get(name)) for metrics in curve]
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def last_score(attributes: dict[str, Any]) -> HeldOutScore | None:
    """A trial's held-out score at its end, from its attributes; None before it has one.

    None too where a pruner ended it: after part of a budget it says nothing beside scores of a whole one.
    """
    scores = attributes.get(SCORES)
    return HeldOutScore(**scores[-1]) if scores and not attributes.get(ENDED_EARLY) else None


def base_score(attributes: dict[str, Any]) -> HeldOutScore | None:
    """The base policy's score under a trial's seed, from its attributes; None in studies that were stored without."""
    base = attributes.get(BASE)
    return HeldOutScore(**base) if base else None


def gain(attributes: dict[str, Any]) -> float | None:
    """What a trial's last held-out score is above the base policy's, from its attributes; None where not known."""
    score, base = last_score(attributes), base_score(attributes)
    return None if score is None or base is None else score.sampled - base.sampled


def effective_ranks(attributes: dict[str, Any]) -> dict[str, EffectiveRank]:
    """How many ranks a trial's update uses, by kind of module, from its attributes; empty where not known."""
    stored = attributes.get(EFFECTIVE_RANKS, {})
    return {kind: EffectiveRank(stable=stable, energy=energy) for kind, (stable, energy) in stored.items()}


def _rounded(value: float | None) -> float | None:
    return float(f"{value:.6g}") if isinstance(value, float) else value
