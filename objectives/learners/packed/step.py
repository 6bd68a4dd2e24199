"""One optimizer step of every trial in a pack, from samples and advantages to new weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from objectives.learners.packed.by_length import Order
from objectives.learners.packed.dropout import Dropout, dropout_seeds
from objectives.learners.packed.grpo import (
    Objective,
    correction_weights,
    slot_losses,
    token_loss,
)
from objectives.learners.packed.head import Head
from objectives.learners.packed.linear import Pack
from objectives.learners.packed.optimizer import PackedAdamW
from objectives.learners.packed.prompt_cache import Sequences, completion_logits, plain_completion_logits


@dataclass(slots=True, kw_only=True)
class Batch:
    """What k trials train on, m of the n completions that each has sampled. The first axis is the trial's."""

    prompts: Tensor
    """[k, m/G, P], padded on the left; [k, m, P] where completions are ordered by length, and don't share them."""
    prompt_mask: Tensor
    completions: Tensor
    """[k, m, C], padded on the right; those of a prompt side by side."""
    completion_mask: Tensor
    signal: Tensor
    """[k, m]: 0 for completions that are there to make up numbers, else 1."""
    advantages: Tensor
    """[k, m]."""
    sampled: int
    """n."""
    tokens: Tensor
    """[k]: of all n completions, less those that are masked."""
    sampler_logprobs: Tensor | None = None
    """[k, m, C]: what the engine says, where it is corrected for."""
    longest: Sequence[tuple[int, int]] = ()
    """Tokens of the longest prompt and completion at each of the m places, in any trial; empty where padding
    stays."""
    old: list[Tensor] = field(default_factory=list)
    """For every micro-batch: log-probabilities before the batch's first update."""
    reference: list[Tensor | None] = field(default_factory=list)
    """The same by the base policy."""
    corrections: list[Tensor | None] = field(default_factory=list)
    """Importance weights for the engine, as of the first update."""

    @property
    def trials(self) -> int:
        """How many trials' samples these are."""
        return len(self.completions)

    def only(self, keep: Sequence[int]) -> Batch:
        """The samples of some of the trials."""

        def rows(values: Any) -> Any:
            return [None if value is None else value[list(keep)] for value in values]

        tensors = self.prompts, self.prompt_mask, self.completions, self.completion_mask
        prompts, prompt_mask, completions, completion_mask = rows(tensors)
        return Batch(
            prompts=prompts,
            prompt_mask=prompt_mask,
            completions=completions,
            completion_mask=completion_mask,
            signal=self.signal[list(keep)],
            advantages=self.advantages[list(keep)],
            sampled=self.sampled,
            tokens=self.tokens[list(keep)],
            sampler_logprobs=rows([self.sampler_logprobs])[0],
            # Those of all trials: what is remembered of a micro-batch is as wide as it was.
            longest=self.longest,
            old=rows(self.old),
            reference=rows(self.reference),
            corrections=rows(self.corrections),
        )

    def sequences(self, start: int, stop: int) -> Sequences:
        """Completions from `start` to `stop` of every trial, with their prompts, padded to the longest of these."""
        group = self.completions.shape[1] // self.prompts.shape[1]
        # What a micro-batch takes of a group shares its prompt; where groups don't divide, in smaller shares.
        share = math.gcd(stop - start, group)
        prompts = torch.arange(start, stop, share, device=self.prompts.device) // group
        padded = self.prompts.shape[2], self.completions.shape[2]
        before, after = (max(tokens) for tokens in zip(*(self.longest[start:stop] or [padded]), strict=True))
        return Sequences(
            prompts=self.prompts[:, prompts, -before:].flatten(0, 1),
            prompt_mask=self.prompt_mask[:, prompts, -before:].flatten(0, 1),
            completions=self.completions[:, start:stop, :after].flatten(0, 1),
            completion_mask=self.completion_mask[:, start:stop, :after].flatten(0, 1),
        )


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
        self.order: Order = "sampled" if micro_batch_size is None else "groups" if prompt_once else "completions"
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
            advantage=batch.advantages[:, part],
            objective=objective,
            reference=batch.reference[i],
            correction=batch.corrections[i],
        )
        losses = slot_losses(tokens.loss, mask, completions=batch.sampled, tokens=batch.tokens, objective=objective)
        losses.sum().backward()
        with torch.no_grad():
            kl = torch.zeros_like(new) if tokens.kl is None else tokens.kl
            clipped, kl = ((value * mask).sum((1, 2)) / batch.tokens.clamp(min=1) for value in (tokens.clipped, kl))
            told = batch.signal.unsqueeze(2)
            entropy = (entropy * mask * told[:, part]).sum((1, 2)) / (batch.completion_mask * told).sum((1, 2))
            return torch.stack([losses.detach(), entropy, clipped, kl])

    def _logprobs(self, sequences: Sequences, trials: int) -> tuple[Tensor, Tensor]:
        with self._autocast():
            with self._head.aside():
                given = self._given(self.pack.model, sequences)
            logps, entropy = self._head.logprobs(given, sequences.completions, self.objective.temperature)
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
