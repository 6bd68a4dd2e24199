"""The arithmetic of GRPO, for K trials side by side and each normalised by itself.

Group Relative Policy Optimization (Shao et al., 2024, DeepSeekMath, arXiv:2402.03300), with the token-level loss of
DAPO (Yu et al., 2025, arXiv:2503.14476) and the constant normaliser of Dr. GRPO (Liu et al., 2025,
arXiv:2503.20783). Where the papers leave a choice, it is the one of TRL 1.13.0's GRPOTrainer.

Letters for shapes: K slots, n completions a slot, C tokens a completion, V tokens in the vocabulary, G completions
a group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LossType = Literal["grpo", "dapo", "dr_grpo", "bnpo"]
Correction = Literal["none", "sequence_mask", "sequence_truncate", "token_mask", "token_truncate"]

STD_EPSILON = 1e-4
"""What TRL adds to the standard deviation that advantages are divided by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is optimised; the names are TRL's."""

    loss_type: LossType
    group_size: int
    max_completion_tokens: int
    temperature: float = 1.0
    epsilon: float = 0.2
    epsilon_high: float | None = None
    delta: float | None = None
    mask_truncated_completions: bool = False
    beta: float = 0.0
    scale_rewards: Literal["group", "batch", "none"] = "group"
    correction: Correction = "none"
    correction_max: float | None = 3.0
    correction_min: float | None = None


def advantages(rewards: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """How much better each completion is than its group: (r - mean(r)) / (std(r) + 1e-4), DeepSeekMath eq. 3.

    Args:
        rewards: Shape [K, n], the completions of a group side by side. NaN where no reward applies: such a
            completion is left out of mean and std, and has no advantage.
        objective: Says what to divide by.

    Returns:
        Advantages of shape [K, n], and each trial's share of groups whose rewards are all equal, of shape [K].
    """
    groups = rewards.unflatten(1, (-1, objective.group_size))  # [K, n/G, G]
    group_std = nanstd(groups, (2,))
    centred = groups - groups.nanmean(dim=2, keepdim=True)
    if objective.scale_rewards == "group":
        centred = centred / (group_std + STD_EPSILON)
    elif objective.scale_rewards == "batch":
        centred = centred / (nanstd(groups, (1, 2)) + STD_EPSILON)
    # As TRL counts. Not == 0: the mean of equal rewards is rounded, and leaves a spread that is nearly zero. A group
    # with a single reward has no spread, and is not counted although it has no advantage either.
    silent = torch.isclose(group_std, torch.zeros_like(group_std)).float().mean(dim=(1, 2))
    return centred.nan_to_num(nan=0.0).flatten(1), silent


def groups_with_signal(advantage: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """Groups to train on: all where there is a KL, else those with an advantage that is not zero; others teach nothing.

    Trials get equally many, as many as the one with the most; the rest make theirs up with groups without a signal.
    Equal rewards whose mean is rounded have advantages that are nearly zero: such a group is trained on, as in TRL.

    Args:
        advantage: Shape [K, n].
        objective: Says the size of a group.

    Returns:
        The groups' indices in order, and 1 for each that was not there to make up numbers; both of shape [K, groups].
    """
    signal = advantage.unflatten(1, (-1, objective.group_size)).ne(0).any(2)  # [K, n/G]
    if objective.beta:
        signal = torch.ones_like(signal)
    # One at least, or there is no batch for a forward pass.
    most = max(1, int(signal.sum(1).max()))
    # Stable, and then in their own order: the same groups are summed in the same order, run after run.
    groups = signal.int().argsort(dim=1, descending=True, stable=True)[:, :most].sort(dim=1).values
    return groups, signal.gather(1, groups).int()


def nanstd(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Standard deviation with Bessel's correction of what is not NaN; NaN where that is a single value."""
    # torch has a nanmean and no nanstd.
    variance = (values - values.nanmean(dim=dims, keepdim=True)).square().nanmean(dim=dims, keepdim=True)
    count = (~values.isnan()).sum(dim=dims, keepdim=True)
    return (variance * count / (count - 1)).sqrt()


def logprobs(logits: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability of each token and, without gradients, entropy in nats of what it was drawn from.

    Args:
        logits: Shape [..., C, V].
        tokens: Shape [..., C].
        temperature: The one that tokens were sampled at.
    """
    # Ratios are differences of these: in 16 bits, little but rounding would be left of them.
    logits = (logits if logits.dtype == torch.float64 else logits.float()) / temperature
    chosen = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    normaliser = logits.logsumexp(-1)
    with torch.no_grad():
        # Not -sum(p log p): where p has become 0, its logarithm is infinite, and their product NaN.
        mean_logit = (logits.softmax(-1) * logits).sum(-1)
        return_entropy = normaliser - mean_logit
    return chosen - normaliser, return_entropy


def correction_weights(trainer: Tensor, sampler: Tensor, mask: Tensor, objective: Objective) -> Tensor:
    """Importance weights for an engine whose log-probabilities are not quite the trainer's.

    A sequence's weight is the product of its tokens' ratios. `truncate` clamps weights into the allowed range;
    `mask` drops what lies outside it.

    Args:
        trainer: Log-probabilities at the time of sampling by the model that is trained, shape [..., C].
        sampler: The same by the engine. NaN, where it has none, counts as no difference.
        mask: 1 for a completion's tokens, 0 for padding.
        objective: Says which correction, and its range.

    Returns:
        Shape [..., C], or [..., 1] for a correction by sequence.
    """
    # NaN times a mask of 0 is still NaN, so the mask comes first.
    difference = ((trainer - sampler) * mask).nan_to_num(nan=0.0)
    if objective.correction.startswith("sequence"):
        difference = difference.sum(-1, keepdim=True)
    weights = difference.exp()
    low, high = objective.correction_min, objective.correction_max
    if objective.correction.endswith("truncate"):
        return weights.clamp(min=low, max=high)
    outside = (weights < (-math.inf if low is None else low)) | (weights > (math.inf if high is None else high))
    return weights.masked_fill(outside, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLoss:
    """The loss of every token, and what reports say of it. All of shape [..., C]."""

    loss: Tensor
    clipped: Tensor
    kl: Tensor | None


def token_loss(
    *,
    new: Tensor,
    old: Tensor,
    advantage: Tensor,
    objective: Objective,
    reference: Tensor | None = None,
    correction: Tensor | None = None,
) -> TokenLoss:
    """-min(ratio A, clip(ratio, 1 - eps, 1 + eps_high) A) + beta KL, DeepSeekMath eq. 3, before any averaging.

    With delta, the ratio that is not clipped is at most that (Prime Intellect, 2025, INTELLECT-2, arXiv:2505.07291).

    Args:
        new: Log-probabilities under the policy that is trained, shape [..., C]. The only one with gradients.
        old: The same under the policy that sampled.
        advantage: Shape [...].
        objective: Says eps, delta and beta.
        reference: Log-probabilities under the base policy, where beta is above 0.
        correction: Importance weights, where there are any.
    """
    advantage = advantage.unsqueeze(-1)
    ratio = (new - old).exp()
    low = 1 - objective.epsilon
    high = 1 + (objective.epsilon if objective.epsilon_high is None else objective.epsilon_high)
    bounded = ratio if objective.delta is None else ratio.clamp(max=objective.delta)
    loss = -torch.min(bounded * advantage, ratio.clamp(low, high) * advantage)
    if correction is not None:
        loss = loss * correction
    kl = None
    if reference is not None:
        # Schulman's k3 estimator is never negative. Its gradient is the KL's only with the ratio as a factor, be
        # that 1 in value (DeepSeek-AI, 2025, DeepSeek-V3.2, arXiv:2512.02556): TRL's default.
        kl = ((reference - new).exp() - (reference - new) - 1) * ratio
        loss = loss + objective.beta * kl
    clipped = ((ratio < low) & (advantage < 0)) | ((ratio > high) & (advantage > 0))
    return TokenLoss(loss=loss, clipped=clipped, kl=kl)


def slot_losses(loss: Tensor, mask: Tensor, *, completions: int, tokens: Tensor, objective: Objective) -> Tensor:
    """Every trial's own loss; their sum is what is differentiated.

    The losses of parts add up to that of the whole, and a part whose advantages are all zero may be left out.

    Args:
        loss: Shape [K, m, C]: of m completions of each trial.
        mask: Shape [K, m, C].
        completions: How many each trial has sampled in all.
        tokens: Shape [K]: how many tokens they have, less those that are masked.
        objective: Says how tokens are averaged.

    Returns:
        Shape [K].
    """
    loss = loss * mask
    if objective.loss_type == "grpo":  # a mean over tokens, then a mean over completions
        # A completion that is masked for having been cut has no tokens.
        return (loss.sum(2) / mask.sum(2).clamp(min=1)).sum(1) / completions
    if objective.loss_type == "dr_grpo":  # a constant: long completions weigh as much a token as short ones
        return loss.sum((1, 2)) / (completions * objective.max_completion_tokens)
    return loss.sum((1, 2)) / tokens.clamp(min=1)  # dapo, and bnpo in one batch: a mean over all tokens
