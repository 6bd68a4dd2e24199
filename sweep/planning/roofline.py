"""How long a study would take on a card, by its data sheet alone: an estimate, which no measurement stands behind.

A roofline (Williams et al., 2009): each part takes as long as its arithmetic or its memory traffic, whichever is
slower, at a share of what the data sheet promises. P are the parameters of linear modules and logits.

- Sampling: every next token of a batch reads weights, adapters and the cache of all its sequences, and computes 2 P for
  each of them; as many sequences at a time as the plan's memory holds. Each prompt is computed once: 2 P a token.
- Training: 4 P a token of prompt and completion, since the base gets no gradients; 6 P where activations are computed
  again, 2 P more with a reference (`learner.beta`). A pass over a micro-batch reads the weights that often.
- Scoring: every held-out prompt is answered twice, with `task.greedy`; every held-out pair is ranked once.

Completions are of full length, prompts of the median one, or as long as there is room for where that is not known.
Loading, compiling, building trials and the reward function are left out, and so are trials that end early.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from objectives.memory.footprint import Fit, Footprint
from objectives.memory.shape import ModelShape
from sweep.planning.pack import completion_tokens
from sweep.preflight.cards import Card
from sweep.study.file import StudyFile
from sweep.text import percent

OF_BANDWIDTH, OF_ARITHMETIC = 0.6, 0.4
"""Shares of the data sheet that are taken for reached. Assumed, not measured."""
HOUR_S, DAY_S = 3600, 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeEstimate:
    """Hours of search and confirmation on one card or, with several workers, on as many. An estimate."""

    workers: int
    trial_seconds: float
    """Of the device; in a pack, a trial's share."""
    search_trials: int
    confirmation_trials: int
    """At most."""
    prompt_tokens: int
    completion_tokens: int
    price: float | None = None
    """Money per device hour."""

    @property
    def search_seconds(self) -> float:
        """From start to end."""
        return self.search_trials * self.trial_seconds / self.workers

    @property
    def confirmation_seconds(self) -> float:
        """From start to end, at most."""
        return self.confirmation_trials * self.trial_seconds / self.workers

    @property
    def takes_days(self) -> bool:
        """Whether search and confirmation may take more than a day."""
        return self.search_seconds + self.confirmation_seconds > DAY_S

    def money(self, trials: int) -> float | None:
        """What so many trials cost; None without a price."""
        return None if self.price is None else trials * self.trial_seconds / HOUR_S * self.price

    @property
    def assumptions(self) -> str:
        """What the figures rest on."""
        return (
            f"an estimate, by the data sheet at {percent(OF_BANDWIDTH)} of its bandwidth and {percent(OF_ARITHMETIC)} "
            f"of its arithmetic, with prompts of {self.prompt_tokens} tokens and completions of "
            f"{self.completion_tokens}, the longest; without loading and rewards. Nobody has measured it"
        )

    def as_json(self) -> dict[str, Any]:
        """Its part of what `sweep plan --json` prints."""
        return asdict(self) | {
            "search_hours": self.search_seconds / HOUR_S,
            "confirmation_hours": self.confirmation_seconds / HOUR_S,
            "search_money": self.money(self.search_trials),
            "confirmation_money": self.money(self.confirmation_trials),
            "assumptions": self.assumptions,
        }


def estimate_time(
    config: StudyFile,
    *,
    shape: ModelShape,
    card: Card,
    held: Footprint,
    fit: Fit,
    workers: int,
    prompt_tokens: int | None,
    price: float | None = None,
) -> TimeEstimate:
    """Estimates how long a study takes.

    Args:
        config: The study, its pack sized.
        shape: Of its base model.
        card: What it runs on.
        held: What a worker holds there.
        fit: How many sequences that leaves room for. It must fit.
        workers: How many cards.
        prompt_tokens: The median prompt's; None where it is not known.
        price: Money per device hour.
    """
    longest = completion_tokens(config)
    prompt = prompt_tokens or max(1, config.model.max_seq_length - longest)
    work = _Work(config=config, shape=shape, card=card, held=held, sequences=fit.sequences, prompt=prompt)
    settings, slots, verdict = config.worker_settings(Path()), config.learner.slots, config.verdict
    batch, prompts = slots * config.budget.completions_per_step, slots * config.budget.prompts_per_step
    held_out = (1 + (config.task.samples and config.task.greedy)) * slots * config.task.held_out_prompts
    rollouts = settings.rollouts if config.task.samples else 0
    seconds = rollouts * work.sampling(batch, prompts) + config.budget.steps * work.training(batch)
    return TimeEstimate(
        workers=workers,
        trial_seconds=(seconds + work.sampling(held_out, held_out)) / slots,
        search_trials=config.search.trials,
        confirmation_trials=verdict.seeds * len(config.search_space().r),
        prompt_tokens=prompt,
        completion_tokens=longest,
        price=price,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A study's sampling and training on a card, in seconds."""

    config: StudyFile
    shape: ModelShape
    card: Card
    held: Footprint
    sequences: int
    prompt: int

    @property
    def _operations(self) -> int:
        """Of one token in one forward pass."""
        return 2 * (self.shape.linear_parameters + self.shape.vocab * self.shape.hidden)

    def _seconds(self, *, operations: float, n_bytes: float) -> float:
        arithmetic = operations / (self.card.tflops * 1e12 * OF_ARITHMETIC)
        return max(arithmetic, n_bytes / (self.card.bandwidth_gb_s * 1e9 * OF_BANDWIDTH))

    def _tokens(self, completions: int) -> int:
        return completions * (self.prompt + completion_tokens(self.config))

    def sampling(self, completions: int, prompts: int) -> float:
        """Of so many completions; where none are sampled, of so many pairs that are ranked."""
        if self.held.engine == "none":
            return self._seconds(operations=2 * self._tokens(completions) * self._operations, n_bytes=0)
        most = self.config.budget.sequences(
            slots=self.config.learner.slots, held_out_prompts=self.config.task.held_out_prompts
        )
        at_once = max(1, min(completions, most, self.sequences))
        longest = completion_tokens(self.config)
        # Half of a completion is there on average when its next token is sampled.
        cache = self.held.sequence_cache * (self.prompt + longest / 2) / self.config.model.max_seq_length
        token = self._seconds(
            operations=at_once * self._operations, n_bytes=self.held.weights + self.held.adapters + at_once * cache
        )
        prefill = self._seconds(operations=prompts * self.prompt * self._operations, n_bytes=0)
        return math.ceil(completions / at_once) * longest * token + prefill

    def training(self, completions: int) -> float:
        """Of one step on so many completions."""
        learner = self.config.learner
        forward_passes = 2 + (self.config.model.gradient_checkpointing != "off") + (learner.beta > 0)
        own = self.config.budget.completions_per_step
        micro_batches = own // (learner.micro_batch_size or own)
        return self._seconds(
            operations=forward_passes * self._tokens(completions) * self._operations,
            n_bytes=forward_passes * micro_batches * self.held.weights,
        )
