"""How much better each completion is than others, and which of them have something to teach.

Letters for shapes: K slots, n completions a slot, G completions a group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from objectives.learners.packed.grpo import Objective

STD_EPSILON = 1e-4
"""What TRL adds to the standard deviation that advantages are divided by."""


def advantages(rewards: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """How much better each completion is than its group, or its batch, by the objective's algorithm.

    Args:
        rewards: Shape [K, n], the completions of a group side by side. NaN where no reward applies: such a
            completion is left out of mean and std, and has no advantage.
        objective: Says the algorithm and the size of a group.

    Returns:
        Advantages of shape [K, n], and each trial's share of groups whose rewards are all equal, of shape [K].
    """
    groups = rewards.unflatten(1, (-1, objective.group_size))  # [K, n/G, G]
    better = {"grpo": _than_its_group, "rloo": _than_the_others, "reinforce_plus_plus": _than_its_batch}
    advantage = better[objective.algorithm](groups, objective)
    # As TRL counts. Not == 0: the mean of equal rewards is rounded, and leaves a spread that is nearly zero. A group
    # with a single reward has no spread, and is not counted although it has no advantage either.
    group_std = nanstd(groups, (2,))
    silent = torch.isclose(group_std, torch.zeros_like(group_std)).float().mean(dim=(1, 2))
    return advantage.nan_to_num(nan=0.0).flatten(1), silent


def _than_its_group(groups: Tensor, objective: Objective) -> Tensor:
    """(r - mean(r)) / (std(r) + 1e-4), DeepSeekMath eq. 3 (Shao et al., 2024, arXiv:2402.03300)."""
    centred = groups - groups.nanmean(dim=2, keepdim=True)
    if objective.scale_rewards == "none":
        return centred
    return centred / (nanstd(groups, (2,) if objective.scale_rewards == "group" else (1, 2)) + STD_EPSILON)


def _than_the_others(groups: Tensor, _: Objective) -> Tensor:
    """R less the mean of the group's others (RLOO, Ahmadian et al., 2024, arXiv:2402.14740), as TRL 1.13 has it."""
    others = (~groups.isnan()).sum(dim=2, keepdim=True) - 1
    return groups - (groups.nansum(dim=2, keepdim=True) - groups) / others


def _than_its_batch(groups: Tensor, _: Objective) -> Tensor:
    """(r - mean(r)) / (std(r) + 1e-4) over all completions (REINFORCE++, Hu et al., 2025, arXiv:2501.03262)."""
    return (groups - groups.nanmean(dim=(1, 2), keepdim=True)) / (nanstd(groups, (1, 2)) + STD_EPSILON)


def groups_with_signal(advantage: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """Groups to train on: all under a KL or a bonus for entropy, else those with an advantage that is not zero.

    Trials get equally many, as many as the one with the most; the rest make theirs up with groups without a signal.
    Equal rewards whose mean is rounded have advantages that are nearly zero: such a group is trained on, as in TRL.

    Args:
        advantage: Shape [K, n].
        objective: Says the size of a group.

    Returns:
        The groups' indices in order, and 1 for each that was not there to make up numbers; both of shape [K, groups].
    """
    signal = advantage.unflatten(1, (-1, objective.group_size)).ne(0).any(2)  # [K, n/G]
    if objective.beta or objective.entropy_coef:
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
