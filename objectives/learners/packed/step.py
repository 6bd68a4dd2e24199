"""One optimizer step of every trial in a pack, from samples and advantages to new weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from objectives.learners.packed.batch import Batch
from objectives.learners.packed.by_length import Order
from objectives.learners.packed.dropout import Dropout, dropout_seeds
from objectives.learners.packed.grpo import (
    Objective,
    correction_weights,
    slot_losses,
    slot_means,
    token_loss,
)
from objectives.learners.packed.head import Head
from objectives.learners.packed.linear import Pack
from objectives.learners.packed.optimizer import PackedAdamW
from objectives.learners.packed.prompt_cache import Sequences, completion_logits, plain_completion_logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a step measured, a number for each trial. Means are over tokens."""

    loss: list[float]
    grad_norm: list[float]
    """Before clipping."""
    entropy: list[float]
    """Over groups with a signal only, unless there is a KL; NaN where there are none."""
    clip_ratio: list[float]
    kl: list[float] | None


class Stepper:
    """Takes optimizer steps for the trials of a pack."""

    def __init__(
        self,
        packed: Pack,
        optimizer: PackedAdamW,
        objective: Objective,
        *,
        max_grad_norm: float,
        micro_batch_size: int | None = None,
        prompt_once: bool = True,
        dropout: float = 0.0,
        longest_prompt: int = 0,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """Sets up.

        Args:
            packed: The model.
            optimizer: On the pack's weights.
            objective: What is optimised.
            max_grad_norm: Every trial's gradient norm is clipped to it.
            micro_batch_size: Completions of each trial in one forward and backward pass; None for all of them.
            prompt_once: Run a prompt once for its group. Does not work with gradient checkpointing.
            dropout: Share of the adapters' inputs that is left out in training. Does not work with `prompt_once`: the
                completions of a group would share a mask.
            longest_prompt: In tokens; see `Dropout.longest`.
            autocast: A context for forward passes.
        """
        self.pack, self.optimizer, self.objective = packed, optimizer, objective
        self._max_grad_norm, self._micro_batch_size = max_grad_norm, micro_batch_size
        # Masks go by place: under dropout, what makes up numbers must not stand between a trial's own completions.
        as_sampled = micro_batch_size is None and not dropout
        self.order: Order = "sampled" if as_sampled else "groups" if prompt_once else "completions"
        """How the completions of its batches are to be ordered."""
        self._given = completion_logits if prompt_once else plain_completion_logits
        self._head = Head(packed)
        self._autocast, self._dropout, self._longest_prompt = autocast, dropout, longest_prompt

    def step(self, slots: Sequence[int], batch: Batch, draws: Sequence[tuple[int, int]] = ()) -> Measured:
        """One update of the adapters in `slots`, which the batch's trials are in the order of.

        A trial whose gradient is not finite keeps its weights, and its numbers say so: an engine that is shared
        could not sample from what is left of it. Under dropout, `draws` are each trial's seed and its steps so far.
        """
        m = batch.completions.shape[1]
        self.pack.model.zero_grad()  # a step that failed half-way may have left some
        size = self._micro_batch_size or m
        with self.pack.selected(slots):
            sums = sum(
                self._dropped(batch, i, slice(start, min(start + size, m)), draws)
                for i, start in enumerate(range(0, m, size))
            )
        # One stretch: of slots in between that take no part, gradients are zero, and the optimizer leaves them alone.
        rows = slice(min(slots), max(slots) + 1)
        self.pack.collect_gradients(rows)
        # [k], in the batch's order, which need not be that of the slots.
        norms = self.optimizer.clip(self._max_grad_norm, rows)[[slot - rows.start for slot in slots]]
        # All numbers in one transfer: on a GPU each would wait for everything before it.
        loss, entropy, clipped, kl, grad_norm = torch.cat([torch.as_tensor(sums), norms.unsqueeze(0)]).tolist()
        finite = [slot for slot, value in zip(slots, grad_norm, strict=True) if math.isfinite(value)]
        self.optimizer.step(finite)
        return Measured(
            loss=loss,
            grad_norm=grad_norm,
            entropy=entropy,
            clip_ratio=clipped,
            kl=kl if self.objective.beta else None,
        )

    def _dropped(self, batch: Batch, i: int, part: slice, draws: Sequence[tuple[int, int]]) -> Tensor:
        """`_backward`, with what a trial's seed and step leave out of it."""
        sequences = batch.sequences(part.start, part.stop)
        if not self._dropout:
            return self._backward(batch, i, part, sequences)
        dropout = Dropout(
            p=self._dropout,
            seeds=dropout_seeds(draws, i),
            prompt=sequences.prompts.shape[1],
            longest=self._longest_prompt,
            tokens=self.objective.max_completion_tokens - 1,  # the last one predicts nothing, and is not read
        )
        with self.pack.dropping(dropout):
            return self._backward(batch, i, part, sequences)

    def _backward(self, batch: Batch, i: int, part: slice, sequences: Sequences) -> Tensor:
        """Adds a micro-batch's gradients; returns its share of loss, entropy, clipping and KL: [4, k]."""
        objective, mask = self.objective, sequences.completion_mask.unflatten(0, (batch.trials, -1))
        # [k, a part of m, C] all, C the longest of these, and only `new` has gradients.
        new, entropy = self._logprobs(sequences, batch.trials)
        if len(batch.old) <= i:  # the batch's first update: these are the samplers' own
            self._remember(batch, new.detach(), mask, part, sequences)
        tokens = token_loss(
            new=new,
            old=batch.old[i],
            mask=mask,
            advantage=batch.advantages[:, part],
            objective=objective,
            reference=batch.reference[i],
            correction=batch.corrections[i],
        )
        count: dict[str, Any] = {"completions": batch.sampled, "tokens": batch.tokens}
        losses = slot_losses(tokens.loss, mask, **count, objective=objective)
        if objective.entropy_coef:
            losses = losses - objective.entropy_coef * slot_means(entropy, mask, **count)
        losses.sum().backward()
        with torch.no_grad():
            clipped = slot_means(tokens.clipped, mask, **count)
            kl = torch.zeros_like(clipped) if tokens.kl is None else slot_means(tokens.kl, mask, **count)
            told = batch.signal.unsqueeze(2)
            entropy = (entropy * mask * told[:, part]).sum((1, 2)) / (batch.completion_mask * told).sum((1, 2))
            return torch.stack([losses.detach(), entropy, clipped, kl])

    def _logprobs(self, sequences: Sequences, trials: int) -> tuple[Tensor, Tensor]:
        with self._autocast():
            with self._head.aside():
                given = self._given(self.pack.model, sequences)
            logps, entropy = self._head.logprobs(
                given, sequences.completions, self.objective.temperature, teach=self.objective.entropy_coef > 0
            )
        return logps.unflatten(0, (trials, -1)), entropy.unflatten(0, (trials, -1))

    def _remember(self, batch: Batch, old: Tensor, mask: Tensor, part: slice, sequences: Sequences) -> None:
        batch.old.append(old)
        reference = correction = None
        if self.objective.beta:
            with self.pack.adapters_off(), torch.no_grad():
                reference, _ = self._logprobs(sequences, batch.trials)
        if batch.sampler_logprobs is not None:
            sampler = batch.sampler_logprobs[:, part, : old.shape[2]]
            correction = correction_weights(old, sampler, mask, self.objective)
        batch.reference.append(reference)
        batch.corrections.append(correction)
