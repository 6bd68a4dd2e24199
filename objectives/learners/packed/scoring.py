"""Rewards of what was sampled, as tensors to train on and as numbers to report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from objectives.engines.protocol import Completion
from objectives.learners.packed.advantages import advantages, groups_with_signal, nanstd
from objectives.learners.packed.batch import Batch
from objectives.learners.packed.by_length import Order, by_length, longest_at
from objectives.learners.packed.grpo import Objective
from objectives.learners.packed.rollouts import Samples
from objectives.learners.packed.step import Measured
from objectives.rewards.calling import RewardSet, Unscored, unscored
from objectives.trial.messages import StepMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Rewards of one trial's rollout, and what reports say of them."""

    rewards: Tensor
    """Shape [n]; NaN where no reward function applies."""
    means: dict[str, float]
    stds: dict[str, float]
    completion_length: float
    unscored: Unscored | None
    """The completions that no reward function applies to; None where all have a reward."""


def score(samples: Samples, texts: Sequence[object], rewards: RewardSet, *, trainer: Mapping[str, Any]) -> Scored:
    """Calls the reward functions on one trial's completions, with what a trainer passes besides.

    Raises:
        RewardError: where one breaks its contract.
    """
    ids = [completion.token_ids for completion in samples.completions]
    table = torch.tensor(
        [
            [math.nan if value is None else value for value in column]
            for column in rewards.table(samples.rows, texts, ids, trainer=trainer)
        ],
        dtype=torch.float32,
    )  # [functions, n]
    totals = (table * torch.tensor(rewards.weights).unsqueeze(1)).nansum(0)
    # nansum of nothing is 0, which would be a reward.
    totals[table.isnan().all(0)] = math.nan
    return Scored(
        rewards=totals,
        means=_by_name(rewards.names, table.nanmean(1)),
        stds=_by_name(rewards.names, nanstd(table, (1,)).squeeze(1)),
        completion_length=sum(map(len, ids)) / len(ids),
        unscored=unscored(samples.rows, totals.tolist()),
    )


def _logprobs(completion: Completion) -> list[float]:
    """The engine's; NaN where it gave none, which is then not corrected for."""
    return list(completion.logprobs or [math.nan] * len(completion.token_ids))


def _trained_tokens(samples: Sequence[Samples], objective: Objective) -> Tensor:
    """How many tokens of each completion the loss is of, [k, n]: none, where cut completions are left out."""
    without = objective.mask_truncated_completions
    return torch.tensor(
        [[0 if without and c.truncated else len(c.token_ids) for c in trial.completions] for trial in samples]
    )


def _by_name(names: Sequence[str], values: Tensor) -> dict[str, float]:
    pairs = zip(names, values.tolist(), strict=True)
    return {name: value for name, value in pairs if not math.isnan(value)}


def metrics(
    scored: Scored, silent: float, measured: Measured, i: int, *, step: int, tokens: int, seconds: float
) -> StepMetrics:
    """A step's numbers for the i-th trial of a batch."""
    return StepMetrics(
        step=step,
        reward=scored.rewards.nanmean().item(),
        reward_std=nanstd(scored.rewards, (0,)).item(),
        groups_without_signal=silent,
        completion_length=scored.completion_length,
        tokens=tokens,
        seconds=seconds,
        entropy=None if math.isnan(measured.entropy[i]) else measured.entropy[i],
        kl=None if measured.kl is None else measured.kl[i],
        unscored=scored.unscored.count if scored.unscored else None,
        clip_ratio=measured.clip_ratio[i],
        loss=measured.loss[i],
        grad_norm=measured.grad_norm[i],
        rewards=scored.means,
        reward_stds=scored.stds,
    )


def to_batch(
    samples: Sequence[Samples],
    rewards: Tensor,
    objective: Objective,
    *,
    pad: int,
    device: torch.device,
    order: Order = "sampled",
) -> tuple[Batch, list[float]]:
    """Pads the rollouts of k trials to one shape, without the groups that have nothing to teach.

    Args:
        samples: One a trial.
        rewards: Shape [k, n].
        objective: Says the size of a group, and how advantages are scaled.
        pad: The token to pad with.
        device: Where the model is.
        order: Of each trial's completions.

    Returns:
        The batch, and each trial's share of groups whose rewards are all equal.
    """
    group = objective.group_size
    advantage, silent = advantages(rewards, objective)
    groups, signal = groups_with_signal(advantage, objective)  # [k, m/G]
    kept = (groups.unsqueeze(2) * group + torch.arange(group)).flatten(1)  # [k, m]
    signal = signal.repeat_interleave(group, dim=1)
    trained = _trained_tokens(samples, objective)  # [k, n]
    longest: list[tuple[int, int]] = []
    if order != "sampled":
        group = 1 if order == "completions" else group  # those that share a prompt
        places = by_length(trained.gather(1, kept), signal, group=group)
        kept, signal = kept.gather(1, places), signal.gather(1, places)
        asked = torch.tensor([[len(ids) for ids in trial.prompts] for trial in samples])
        longest = list(zip(*(longest_at(tokens.gather(1, kept)) for tokens in (asked, trained)), strict=True))
    # From here on trial after trial, k * m/G prompts and k * m completions: `stacked` makes rows of trials again.
    own = list(zip(samples, kept.tolist(), strict=True))
    prompts = [list(trial.prompts[i]) for trial, rows in own for i in rows[::group]]
    completions = [list(trial.completions[i].token_ids) for trial, rows in own for i in rows]

    def stacked(rows: list[list[int]] | list[list[float]], fill: float, *, left: bool = False) -> Tensor:
        width = max(map(len, rows))
        padded = [[fill] * (width - len(row)) + row if left else row + [fill] * (width - len(row)) for row in rows]
        by_trial: Tensor = torch.tensor(padded, device=device).unflatten(0, (len(samples), -1))
        return by_trial

    counted = trained.gather(1, kept).sign().flatten().tolist()
    masks = [[counts] * len(row) for counts, row in zip(counted, completions, strict=True)]
    sampler = None
    if objective.correction != "none":
        sampler = stacked([_logprobs(trial.completions[i]) for trial, rows in own for i in rows], 0.0)
    return Batch(
        prompts=stacked(prompts, pad, left=True),
        prompt_mask=stacked([[1] * len(row) for row in prompts], 0, left=True),
        completions=stacked(completions, pad),
        completion_mask=stacked(masks, 0),
        signal=signal.to(device),
        advantages=advantage.gather(1, kept).to(device),
        sampled=advantage.shape[1],
        tokens=trained.sum(1).to(device),
        sampler_logprobs=sampler,
        longest=longest,
    ), silent.tolist()
