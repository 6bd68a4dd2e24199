"""The losses of GRPO and its relatives, for K trials side by side and each normalised by itself.

Group Relative Policy Optimization (Shao et al., 2024, DeepSeekMath, arXiv:2402.03300), with the token-level loss of
DAPO (Yu et al., 2025, arXiv:2503.14476), the constant normaliser of Dr. GRPO (Liu et al., 2025, arXiv:2503.20783), the
ratios of whole completions of GSPO (Zheng et al., 2025, arXiv:2507.18071) and RLOO (Ahmadian et al., 2024,
arXiv:2402.14740), and the bounded weights of CISPO (MiniMax, 2025, MiniMax-M1, arXiv:2506.13585). Where the papers
leave a choice, it is the one of TRL 1.13.0's GRPOTrainer and, for RLOO, its RLOOTrainer.

Letters for shapes: K slots, n completions a slot, C tokens a completion, V tokens in the vocabulary, G completions
a group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Algorithm = Literal["grpo", "rloo", "reinforce_plus_plus"]
LossType = Literal["grpo", "dapo", "dr_grpo", "bnpo", "cispo"]
Correction = Literal["none", "sequence_mask", "sequence_truncate", "token_mask", "token_truncate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is optimised; the names are TRL's, but for the algorithm."""

    loss_type: LossType
    group_size: int
    max_completion_tokens: int
    algorithm: Algorithm = "grpo"
    importance_sampling_level: Literal["token", "sequence"] = "token"
    entropy_coef: float = 0.0
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


def logprobs(logits: Tensor, tokens: Tensor, temperature: float, *, teach: bool = False) -> tuple[Tensor, Tensor]:
    """Log-probability of each token, and entropy in nats of what it was drawn from.

    Args:
        logits: Shape [..., C, V].
        tokens: Shape [..., C].
        temperature: The one that tokens were sampled at.
        teach: Whether entropies have gradients, too.
    """
    # Ratios are differences of these: in 16 bits, little but rounding would be left of them.
    logits = (logits if logits.dtype == torch.float64 else logits.float()) / temperature
    chosen = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    normaliser = logits.logsumexp(-1)
    with torch.set_grad_enabled(teach and torch.is_grad_enabled()):
        # Not -sum(p log p): where p has become 0, its logarithm is infinite, and their product NaN.
        entropy = normaliser - (logits.softmax(-1) * logits).sum(-1)
    return chosen - normaliser, entropy


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
    """The loss of every token, and what reports say of it. All of shape [..., C]; or [..., 1], of a completion."""

    loss: Tensor
    clipped: Tensor
    kl: Tensor | None


def ratios(difference: Tensor, mask: Tensor, objective: Objective) -> Tensor:
    """What is clipped: the probability ratio of each token, or one of the whole completion.

    By GSPO, the geometric mean of its tokens' ratios; by RLOO, their product.

    Args:
        difference: Of log-probabilities under the new and the old policy, shape [..., C].
        mask: Shape [..., C].
        objective: Says which.

    Returns:
        Shape [..., C], or [..., 1].
    """
    if objective.algorithm == "rloo":
        return (difference * mask).sum(-1, keepdim=True).exp()
    if objective.importance_sampling_level == "sequence":
        return ((difference * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)).exp()
    return difference.exp()


def token_loss(
    *,
    new: Tensor,
    old: Tensor,
    mask: Tensor,
    advantage: Tensor,
    objective: Objective,
    reference: Tensor | None = None,
    correction: Tensor | None = None,
) -> TokenLoss:
    """-min(ratio A, clip(ratio, 1 - eps, 1 + eps_high) A) + beta KL, DeepSeekMath eq. 3, before any averaging.

    With delta, the ratio that is not clipped is at most that (Prime Intellect, 2025, INTELLECT-2, arXiv:2505.07291).
    With CISPO, -min(ratio, eps_high) A log p instead, where the bounded ratio is a weight without gradients.

    Args:
        new: Log-probabilities under the policy that is trained, shape [..., C]. The only one with gradients.
        old: The same under the policy that sampled.
        mask: 1 for a completion's tokens, 0 for padding.
        advantage: Shape [...].
        objective: Says eps, delta and beta.
        reference: Log-probabilities under the base policy, where beta is above 0.
        correction: Importance weights, where there are any.
    """
    advantage = advantage.unsqueeze(-1)
    ratio = ratios(new - old, mask, objective)
    low = 1 - objective.epsilon
    high = objective.epsilon if objective.epsilon_high is None else objective.epsilon_high
    if objective.loss_type == "cispo":
        loss = -ratio.detach().clamp(max=high) * advantage * new
        clipped = (ratio > high) & (advantage > 0)
    else:
        bounded = ratio if objective.delta is None else ratio.clamp(max=objective.delta)
        loss = -torch.min(bounded * advantage, ratio.clamp(low, 1 + high) * advantage)
        clipped = ((ratio < low) & (advantage < 0)) | ((ratio > 1 + high) & (advantage > 0))
    if correction is not None:
        loss = loss * correction
    kl = None
    if reference is not None:
        # Schulman's k3 estimator is never negative. Its gradient is the KL's only with the ratio as a factor, be
        # that 1 in value (DeepSeek-AI, 2025, DeepSeek-V3.2, arXiv:2512.02556): TRL's default.
        kl = ((reference - new).exp() - (reference - new) - 1) * ratio
        loss = loss + objective.beta * kl
    return TokenLoss(loss=loss, clipped=clipped, kl=kl)


def slot_losses(loss: Tensor, mask: Tensor, *, completions: int, tokens: Tensor, objective: Objective) -> Tensor:
    """Every trial's own loss; their sum is what is differentiated.

    The losses of parts add up to that of the whole, and a part whose advantages are all zero may be left out.

    Args:
        loss: Shape [K, m, C], or [K, m, 1]: of m completions of each trial.
        mask: Shape [K, m, C].
        completions: How many each trial has sampled in all.
        tokens: Shape [K]: how many tokens they have, less those that are masked.
        objective: Says how tokens are averaged.

    Returns:
        Shape [K].
    """
    if objective.algorithm == "rloo":  # a mean over completions
        return loss.sum((1, 2)) / completions
    loss = loss * mask
    if objective.loss_type == "grpo":  # a mean over tokens, then a mean over completions
        # A completion that is masked for having been cut has no tokens.
        return (loss.sum(2) / mask.sum(2).clamp(min=1)).sum(1) / completions
    if objective.loss_type == "dr_grpo":  # a constant: long completions weigh as much a token as short ones
        return loss.sum((1, 2)) / (completions * objective.max_completion_tokens)
    return loss.sum((1, 2)) / tokens.clamp(min=1)  # dapo, cispo, and bnpo in one batch: a mean over all tokens


def slot_means(values: Tensor, mask: Tensor, *, completions: int, tokens: Tensor) -> Tensor:
    """Every trial's mean over its tokens; of a value for each completion, as [K, m, 1], over those. Parts add up.

    For the arguments and what is returned, see `slot_losses`.
    """
    if values.shape[2] < mask.shape[2]:
        return values.sum((1, 2)) / completions
    return (values * mask).sum((1, 2)) / tokens.clamp(min=1)
