"""Scoring a policy on held-out preference pairs: the share that it ranks right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from objectives.tasks.protocol import Row
from objectives.trial.messages import HeldOutScore

BATCH = 64
"""Pairs in one forward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One pair as tokens: the prompt, and each completion with the token that ends it."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


def tokenize_pairs(tokenizer: Any, rows: Sequence[Row], *, longest: int) -> list[Pair]:
    """The rows' pairs as TRL 1.13's DPOTrainer makes them: what a completion adds to its prompt, cut at `longest`."""
    pairs = []
    for row in rows:
        prompt = row["prompt"]
        start = _ids(tokenizer, prompt, asks=True)
        both = []
        for completion in (row["chosen"], row["rejected"]):
            if isinstance(prompt, str):
                end = "" if completion.endswith(tokenizer.eos_token) else tokenizer.eos_token
                whole = _ids(tokenizer, prompt + completion + end)
            else:
                whole = _ids(tokenizer, [*prompt, *completion])
            both.append(tuple(whole[len(start) : longest]))
        pairs.append(Pair(prompt=tuple(start[:longest]), chosen=both[0], rejected=both[1]))
    return pairs


def _ids(tokenizer: Any, text: Any, *, asks: bool = False) -> list[int]:
    if isinstance(text, str):
        ids: list[int] = tokenizer(text)["input_ids"]
        return ids
    return list(tokenizer.apply_chat_template(text, add_generation_prompt=asks, return_dict=True)["input_ids"])


def completion_logps(model: Any, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> Tensor:
    """The log-probability of each completion given its prompt, summed over its tokens; in float32, shape [n]."""
    device = next(model.parameters()).device
    length = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    seen, counted = torch.zeros_like(ids), torch.zeros_like(ids)
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor([*prompt, *completion])
        seen[i, :end] = counted[i, len(prompt) : end] = 1
    with torch.no_grad():
        logits = model(input_ids=ids.to(device), attention_mask=seen.to(device), use_cache=False).logits[:, :-1].float()
        logps = logits.log_softmax(-1).gather(2, ids[:, 1:, None].to(device)).squeeze(2)
        summed: Tensor = (logps * counted[:, 1:].to(device)).sum(1)
        return summed.cpu()


@dataclass(frozen=True, slots=True, kw_only=True)
class PairEvaluator:
    """Ranks the same held-out pairs for every trial.

    A pair is ranked right where the chosen completion has gained more log-likelihood over the base policy than the
    rejected one: the sign of DPO's implicit reward margin (Rafailov et al., 2023, section 5.1). A tie counts half, so
    the base policy's own score is one half.
    """

    pairs: Sequence[Pair]
    _reference: dict[int, Tensor] = field(default_factory=dict, init=False)
    """The base policy's log-likelihood of chosen less rejected, by the first pair of a batch."""

    def base_score(self, seed: int, known: HeldOutScore | None = None) -> HeldOutScore:
        """See `Evaluator.base_score`: nothing is sampled, so that it is the same for all seeds."""
        return known or self._score(np.full(len(self.pairs), 0.5), spread=0.5, step=0)

    def score(self, model: Any, *, step: int) -> HeldOutScore:
        """The share of pairs that a PEFT model ranks right.

        Args:
            model: As it is being trained.
            step: Steps that it has taken.
        """
        training = model.training
        model.eval()
        try:
            right = np.concatenate([self._ranked(model, start) for start in range(0, len(self.pairs), BATCH)])
        finally:
            model.train(training)
        return self._score(right, spread=float(np.std(right)), step=step)

    def _ranked(self, model: Any, start: int) -> Any:
        batch = self.pairs[start : start + BATCH]
        if start not in self._reference:
            with model.disable_adapter():
                self._reference[start] = _margins(model, batch)
        gained = _margins(model, batch) - self._reference[start]
        return ((torch.sign(gained) + 1) / 2).numpy()

    @staticmethod
    def _score(right: Any, *, spread: float, step: int) -> HeldOutScore:
        return HeldOutScore(step=step, sampled=float(right.mean()), greedy=None, prompts=len(right), spread=spread)


def _margins(model: Any, pairs: Sequence[Pair]) -> Tensor:
    prompts = [pair.prompt for pair in pairs]
    chosen = completion_logps(model, prompts, [pair.chosen for pair in pairs])
    return chosen - completion_logps(model, prompts, [pair.rejected for pair in pairs])
