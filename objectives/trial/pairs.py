"""Scoring a policy on held-out preference pairs: the share that it ranks right."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from objectives.settings.pack import LOGITS_AT_ONCE, PAIRS_AT_ONCE
from objectives.tasks.protocol import Row
from objectives.trial.messages import HeldOutScore


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
    kept = _logit_positions(prompts, completions)
    length = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
    # Padded on the right: on the left, positions would have to be given, which not every model takes.
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    seen, counted = torch.zeros_like(ids), torch.zeros_like(ids)
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor([*prompt, *completion])
        seen[i, :end] = counted[i, len(prompt) : end] = 1
    only = {"logits_to_keep": kept} if _keeps_logits(model) else {}
    with torch.no_grad():
        output = model(input_ids=ids.to(device), attention_mask=seen.to(device), use_cache=False, **only)
        # Those that predict the batch's completions: the last one predicts what nobody asks for.
        logits = output.logits[:, -kept:][:, :-1].float()
        following = ids[:, length - kept + 1 :, None].to(device)
        logps = logits.log_softmax(-1).gather(2, following).squeeze(2)
        summed: Tensor = (logps * counted[:, length - kept + 1 :].to(device)).sum(1)
        return summed.cpu()


def _logit_positions(prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> int:
    """Positions at the end of a padded batch that have logits: from the shortest prompt's last token on."""
    length = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
    return min(length, length - min(map(len, prompts)) + 1)


def _keeps_logits(model: Any) -> bool:
    """Whether a PEFT model's base can leave logits out."""
    return "logits_to_keep" in inspect.signature(model.get_base_model().forward).parameters


def pair_batches(pairs: Sequence[Pair], *, vocab: int, at_once: int = LOGITS_AT_ONCE) -> list[list[int]]:
    """Indices of pairs that go through the model together: one at least, more while their logits stay within a limit.

    Args:
        pairs: In any order. Those whose prompts are of a length go together, so that few logits are of prompts.
        vocab: Of the model.
        at_once: Sequences x tokens x vocabulary, at most, of the chosen or of the rejected completions.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(pairs)), key=lambda i: len(pairs[i].prompt)):
        more = [*batches[-1], index] if batches else []
        prompts = [pairs[i].prompt for i in more]
        sides = ([pairs[i].chosen for i in more], [pairs[i].rejected for i in more])
        if 0 < len(more) <= PAIRS_AT_ONCE and all(
            len(more) * _logit_positions(prompts, side) * vocab <= at_once for side in sides
        ):
            batches[-1] = more
        else:
            batches.append([index])
    return batches


@dataclass(frozen=True, slots=True, kw_only=True)
class PairEvaluator:
    """Ranks the same held-out pairs for every trial.

    A pair is ranked right where the chosen completion has gained more log-likelihood over the base policy than the
    rejected one: the sign of DPO's implicit reward margin (Rafailov et al., 2023, section 5.1). A tie counts half, so
    the base policy's own score is one half. The mean margin, in nats and not yet multiplied by beta, is told beside it.
    """

    pairs: Sequence[Pair]
    _reference: list[Tensor] = field(default_factory=list, init=False)
    """The base policy's own `_margins`, once they are known."""

    def base_score(self, seed: int, known: HeldOutScore | None = None) -> HeldOutScore:
        """See `Evaluator.base_score`: nothing is sampled, so that it is the same for all seeds."""
        return known or self._score(np.full(len(self.pairs), 0.5), spread=0.5, step=0, margin=0.0)

    def score(self, model: Any, *, step: int) -> HeldOutScore:
        """The share of pairs that a PEFT model ranks right.

        Args:
            model: As it is being trained.
            step: Steps that it has taken.
        """
        training = model.training
        model.eval()
        try:
            if not self._reference:
                with model.disable_adapter():
                    self._reference.append(_margins(model, self.pairs))
            gained = _margins(model, self.pairs) - self._reference[0]
        finally:
            model.train(training)
        # A likelihood that is no number ranks nothing right: torch's sign of it is 0, that of a tie.
        right = torch.where(gained.isnan(), 0.0, (torch.sign(gained) + 1) / 2).numpy()
        return self._score(right, spread=float(np.std(right)), step=step, margin=float(gained.mean()))

    @staticmethod
    def _score(right: Any, *, spread: float, step: int, margin: float) -> HeldOutScore:
        return HeldOutScore(
            step=step,
            sampled=float(right.mean()),
            greedy=None,
            prompts=len(right),
            spread=spread,
            rewards={"margin": margin if math.isfinite(margin) else None},
        )


def _margins(model: Any, pairs: Sequence[Pair]) -> Tensor:
    """The log-likelihood of each chosen completion less that of the rejected one, shape [pairs]."""
    margins = torch.zeros(len(pairs))
    for batch in pair_batches(pairs, vocab=model.config.get_text_config().vocab_size):
        some = [pairs[i] for i in batch]
        prompts = [pair.prompt for pair in some]
        chosen = completion_logps(model, prompts, [pair.chosen for pair in some])
        margins[batch] = chosen - completion_logps(model, prompts, [pair.rejected for pair in some])
    return margins
