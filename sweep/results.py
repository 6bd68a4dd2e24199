"""Results as pandas frames, for anyone's notebook.

A storage URL is all it takes:

    from sweep.results import load_results

    results = load_results("sqlite:///rank-sweep.db", "tiny")
    results.trials.groupby("r").held_out.describe()

Frames can be joined on their keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from objectives.trial.messages import EffectiveRank, HeldOutScore
from sweep.answer.spending import device_seconds
from sweep.confirmation.naming import confirmation_study, earlier_confirmations, is_confirmation, longer_confirmations
from sweep.errors import StorageError
from sweep.storage import attributes
from sweep.storage.attributes import DESIGN, SEED
from sweep.storage.database import open_storage, open_study
from sweep.storage.reference import is_reference, reference_study
from sweep.storage.trials import wanted_trials
from sweep.study.space import alpha_of
from sweep.text import storable

if TYPE_CHECKING:
    import optuna

PARAMETERS = ("r", "alpha_per_r", "learning_rate", "use_rslora", "target_modules")
KEY = ("study", "phase", "trial")
EMPTY = [
    *KEY, "state", "r", "alpha", "learning_rate", "seed", "held_out", "held_out_greedy", "gain", "collapsed", "reason",
]  # fmt: skip
"""Columns that are there before any trial is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Studies as frames that can be joined on `study`, `phase` and `trial`."""

    trials: pd.DataFrame
    """One row per trial.

    | column | what |
    | --- | --- |
    | study, phase, trial | its study's name; `search` or `confirm`, or `confirm 1`, ... from before the study was
      extended, or `160 steps`, ... on the longer horizon of that name, or `reference`, without an adapter; its
      number there |
    | state | Optuna's, in lower case: complete, pruned, fail, running |
    | r, alpha, learning_rate, use_rslora, target_modules | what was sampled; a parameter that no trial sampled has no
      column |
    | alpha_per_r | where alpha was sampled in multiples of r |
    | seed | decides adapter initialisation, prompt order and sampling |
    | added | whether somebody chose it by hand, with `sweep add`: ranks are compared without it |
    | design | whether it belongs to the points that every rank gets |
    | held_out, held_out_greedy | mean reward on held-out prompts after its last step, sampled and greedy |
    | held_out:NAME | mean of each reward function over the sampled completions; of preference pairs, `margin` |
    | held_out_tokens, held_out_cut | their mean length; the share of them that were cut at the longest length |
    | gain | held_out less the base policy's, sampled with the same seed |
    | collapsed, reason | whether it collapsed; why it failed, was pruned or counts as collapsed |
    | ended_early | whether a pruner ended it: it then has no held_out, and its scores are in `steps` alone |
    | stable_rank:KIND, rank_90:KIND | of the update B A in each kind of module, as q_proj: its stable rank, and how
      many singular values hold 90 % of its energy; means over layers |
    | stable_rank, rank_90 | means over the kinds; absent from studies without |
    | steps, tokens, adapter_parameters | GRPO steps taken; completion tokens sampled; numbers in its adapter |
    | started, seconds | local time; from start to end |
    | device_seconds | its share of the device's time, as the report counts it; the sum of the columns that follow |
    | seconds_build, seconds_rollout, ... | what of its device time went into each part |
    """

    steps: pd.DataFrame
    """One row per GRPO step of an ended trial: the key and parameters of its trial, and

    | column | what |
    | --- | --- |
    | step | counted from 1 |
    | reward, reward_std | over the step's completions |
    | groups_without_signal | share of groups whose rewards are all equal |
    | completion_length, tokens | mean, in tokens; completion tokens sampled since the trial began |
    | entropy, kl, clip_ratio, loss, grad_norm | as the learner measured them; absent where it did not. The packed
      learner's entropy is over groups with a signal |
    | reward:NAME, reward_std:NAME | of each reward function |
    | seconds | the step took |
    | held_out, held_out_greedy | where the step was scored on held-out prompts |
    """


def load_results(storage: str, study: str | None = None) -> Results:
    """Reads one study with its confirmation, or all of a storage.

    Args:
        storage: An Optuna storage URL, such as `sqlite:///rank-sweep.db`.
        study: The study's name; default: every study that `sweep run` made there.

    Raises:
        StorageError: where the storage or the study does not exist.
    """
    opened = open_storage(storage, create=False)
    made = {s.study_name: s.user_attrs for s in opened.get_all_studies() if attributes.CONFIG in s.user_attrs}
    searches = [name for name, own in made.items() if not (is_confirmation(name, made) or is_reference(own))]
    if study is not None:
        if study not in searches:
            open_study(opened, study)
            raise StorageError(f"study {study!r} in storage was not made by `sweep run`")
        searches = [study]
    found = {
        (name, phase): wanted_trials(open_study(opened, stored))
        for name in searches
        for phase, stored in _phases(opened, name)
    }
    return frame_trials(found)


def _phases(storage: optuna.storages.RDBStorage, name: str) -> Iterator[tuple[str, str]]:
    """What is stored of a search: each phase with its study's name."""
    search = open_study(storage, name)
    yield "search", name
    if confirmation := confirmation_study(search):
        yield "confirm", confirmation.study_name
    for number, earlier in enumerate(earlier_confirmations(search), start=1):
        yield f"confirm {number}", earlier.study_name
    for steps, longer in longer_confirmations(search).items():
        yield f"{steps} steps", longer.study_name
    if (reference := reference_study(search)) is not None:
        yield "reference", reference.study_name


def frame_trials(trials: Mapping[tuple[str, str], Sequence[optuna.trial.FrozenTrial]]) -> Results:
    """Trials that were read already, as frames.

    Args:
        trials: By study and phase, `search` or `confirm`.
    """
    found = [
        ({"study": study, "phase": phase, "trial": trial.number}, trial)
        for (study, phase), own in trials.items()
        for trial in own
    ]
    rows = [key | _trial_row(trial) for key, trial in found]
    return Results(trials=pd.DataFrame(rows, columns=None if rows else EMPTY), steps=_steps(found))


def _parameters(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    sampled = {name: trial.params[name] for name in PARAMETERS if name in trial.params}
    alpha = alpha_of(trial.params)
    rank = {"r": sampled.pop("r")} if "r" in sampled else {}
    return rank | ({} if alpha is None else {"alpha": alpha}) | sampled | {"seed": trial.user_attrs.get(SEED)}


def _trial_row(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    attrs = trial.user_attrs
    score, cost = attributes.last_score(attrs), attrs.get(attributes.COST, {})
    return {
        "state": trial.state.name.lower(),
        **_parameters(trial),
        "design": bool(attrs.get(DESIGN)),
        "added": bool(attrs.get(attributes.ADDED)),
        "held_out": None if score is None else score.sampled,
        "held_out_greedy": None if score is None else score.greedy,
        **({} if score is None else _measures(score)),
        "gain": attributes.gain(attrs),
        "collapsed": bool(attrs.get(attributes.COLLAPSED)),
        "ended_early": bool(attrs.get(attributes.ENDED_EARLY)),
        "reason": None if (reason := attrs.get(attributes.REASON)) is None else storable(reason),
        **_effective_ranks(attrs),
        "steps": cost.get("steps"),
        "tokens": cost.get("tokens"),
        "adapter_parameters": cost.get("adapter_parameters"),
        "started": trial.datetime_start,
        "seconds": None if trial.duration is None else trial.duration.total_seconds(),
        "device_seconds": device_seconds(trial) if cost else None,
        **{f"seconds_{name}": value for name, value in cost.get("seconds", {}).items()},
    }


def _measures(score: HeldOutScore) -> dict[str, float | None]:
    """What a score holds besides rewards as a whole; nothing in studies stored without."""
    of_rewards = {f"held_out:{name}": value for name, value in score.rewards.items()}
    if score.completion_tokens is None:
        return of_rewards
    return {**of_rewards, "held_out_tokens": score.completion_tokens, "held_out_cut": score.cut}


def _effective_ranks(attrs: dict[str, Any]) -> dict[str, float]:
    found = attributes.effective_ranks(attrs)
    if not found:
        return {}
    of_kind = {f"stable_rank:{kind}": own.stable for kind, own in found.items()}
    of_kind |= {f"rank_90:{kind}": own.energy for kind, own in found.items()}
    mean = EffectiveRank.mean(found.values())
    return {"stable_rank": mean.stable, "rank_90": mean.energy, **of_kind}


def _steps(found: list[tuple[dict[str, Any], optuna.trial.FrozenTrial]]) -> pd.DataFrame:
    """Column by column: a frame for each trial would take longer than reading them."""
    curves = [trial.user_attrs.get(attributes.CURVE, {}) for _, trial in found]
    measured = dict.fromkeys(name for curve in curves for name in curve)
    constant = dict.fromkeys((*KEY, *(name for _, trial in found for name in _parameters(trial))))
    columns: dict[str, list[Any]] = {name: [] for name in (*constant, *measured)}
    held_out: dict[str, list[float | None]] = {"held_out": [], "held_out_greedy": []}
    for (key, trial), curve in zip(found, curves, strict=True):
        steps = curve.get("step", [])
        own = key | _parameters(trial)
        for name in constant:
            columns[name] += [own.get(name)] * len(steps)
        for name in measured:
            columns[name] += curve.get(name) or [None] * len(steps)
        scores = {score["step"]: score for score in trial.user_attrs.get(attributes.SCORES, [])}
        held_out["held_out"] += [scores.get(step, {}).get("sampled") for step in steps]
        held_out["held_out_greedy"] += [scores.get(step, {}).get("greedy") for step in steps]
    return pd.DataFrame(columns | held_out)
