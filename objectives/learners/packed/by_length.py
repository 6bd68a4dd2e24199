"""Completions of like length side by side, so that micro-batches, padded to their own longest, have little padding."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Order = Literal["sampled", "groups", "completions"]
"""As they were sampled; longest first, a group's side by side, as what shares a prompt has to be; longest first."""


def by_length(lengths: Tensor, signal: Tensor, *, group: int) -> Tensor:
    """Each trial's completions, longest first, those that only make up numbers last.

    So a trial's own completions stand at the same places whoever it is packed with, and the longest of all trials meet
    in one micro-batch.

    Args:
        lengths: In tokens, shape [k, m].
        signal: 0 for completions that are there to make up numbers, else 1; shape [k, m].
        group: Completions that stay side by side, ordered by their longest.

    Returns:
        Indices of shape [k, m].
    """
    inside = lengths.unflatten(1, (-1, group)).sort(dim=2, descending=True, stable=True)  # [k, m/group, group]
    longest = inside.values[:, :, 0]
    made_up = signal[:, ::group] == 0
    groups = longest.masked_fill(made_up, -1).argsort(dim=1, descending=True, stable=True)  # [k, m/group]
    within = inside.indices.gather(1, groups.unsqueeze(2).expand_as(inside.indices))
    order: Tensor = (groups.unsqueeze(2) * group + within).flatten(1)
    return order


def longest_at(tokens: Tensor) -> list[int]:
    """The most tokens that any trial has at each place, at least 1: a pass reads something. `tokens` is [k, m]."""
    most: list[int] = tokens.amax(dim=0).clamp(min=1).tolist()
    return most
