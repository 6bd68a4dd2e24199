"""What passes between a supervisor and its worker: plain data, no Optuna and no tensors."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from objectives.lora import LoraSpec
from objectives.stages import Stage, TrialsStage
from objectives.trial.preview import Preview


def trial_name(number: int) -> str:
    """What a trial's log and adapter folder are called."""
    return f"trial-{number:04d}"


def trial_log(folder: Path, number: int) -> Path:
    """Where a trial's output goes."""
    return folder / f"{trial_name(number)}.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpec:
    """One trial to run. `seed` decides adapter initialisation, prompt order and sampling."""

    number: int
    lora: LoraSpec | None
    """Its adapter; None where the whole model is trained."""
    learning_rate: float
    seed: int
    score_after: tuple[int, ...] = ()
    """Steps after which it is scored on held-out prompts, besides its last."""
    base: HeldOutScore | None = None
    """The base policy's score under this seed, where another trial has measured it."""
    target_set: str = ""
    """What its target modules are called, where trials of the study differ in them."""

    @property
    def r(self) -> int:
        """Its adapter's rank; 0 without one."""
        return 0 if self.lora is None else self.lora.r


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """What one GRPO step measured. Rewards are over the step's completions; lengths and tokens count tokens."""

    step: int
    reward: float
    reward_std: float
    groups_without_signal: float
    """Share of groups in [0, 1] whose rewards are all equal, so that their advantages are zero."""
    completion_length: float
    tokens: int
    """Completion tokens sampled since the trial began."""
    seconds: float
    entropy: float | None = None
    """Mean over tokens, in nats. The packed learner's is over groups with a signal, unless beta is above 0."""
    kl: float | None = None
    unscored: int | None = None
    """Completions that no reward function applied to, where there were any. They count in no mean."""
    clip_ratio: float | None = None
    loss: float | None = None
    grad_norm: float | None = None
    rewards: Mapping[str, float] = field(default_factory=dict)
    """Mean of each reward function, by its name."""
    reward_stds: Mapping[str, float] = field(default_factory=dict)
    """Spread of each reward function over the step's completions, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutScore:
    """Mean reward on held-out prompts, sampled at the study's temperature and greedy, after `step` steps."""

    step: int
    sampled: float
    greedy: float | None
    """None on the way, where it is asked for at the end alone, and where the study does without."""
    prompts: int
    """Whose sampled completion has a reward: what the mean is over. What studies stored early counts all."""
    spread: float | None = None
    """Standard deviation of the sampled reward between prompts; None in studies that were stored without."""
    unscored: int = 0
    """Sampled completions that no reward function applied to. They count in no mean."""
    unscored_prompt: str = ""
    """The prompt of one of them, shortened."""
    rewards: Mapping[str, float | None] = field(default_factory=dict)
    """Mean of each reward function, by its name, over the sampled completions that it applies to; None where it applies
    to none."""
    completion_tokens: float | None = None
    """Mean length of the sampled completions."""
    cut: float | None = None
    """Share of them that were cut at the longest length."""

    @property
    def unscored_share(self) -> float:
        """Share of the sampled completions without a reward."""
        return self.unscored / (self.prompts + self.unscored)

    @property
    def sampling_error(self) -> float:
        """Standard error of the sampled mean, by the spread between prompts; NaN where that is not known."""
        return math.nan if self.spread is None else self.spread / math.sqrt(self.prompts)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveRank:
    """How many ranks the trained B A uses in one kind of module, as q_proj: means over layers."""

    stable: float
    """Stable rank (Rudelson and Vershynin, 2007): the sum of squared singular values over the largest of them."""
    energy: float
    """How many singular values, the largest first, hold 90 % of the sum of their squares."""

    @classmethod
    def mean(cls, found: Collection[EffectiveRank]) -> EffectiveRank:
        """The mean of each of the two numbers."""
        return cls(
            stable=math.fsum(own.stable for own in found) / len(found),
            energy=math.fsum(own.energy for own in found) / len(found),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What a finished trial measured. `scores` holds the held-out score along the budget, last one last."""

    scores: tuple[HeldOutScore, ...]
    steps: int
    pruned: bool
    tokens: int
    adapter_parameters: int
    seconds: Mapping[str, float]
    adapter: str | None = None
    """The PEFT folder in which the trained adapter was kept."""
    base: HeldOutScore | None = None
    """The base policy's score, its sampling seeded as the trial's own: what the trial has above it is its gain."""
    effective_ranks: Mapping[str, EffectiveRank] = field(default_factory=dict)
    """By kind of module; empty where weights are not finite."""

    @property
    def held_out(self) -> HeldOutScore:
        """The score after the trial's last step."""
        return self.scores[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Worker to supervisor, once: the model and the engine are loaded."""

    baseline: HeldOutScore
    facts: Mapping[str, Any]
    """Versions, hardware and settings in force that a reader needs to repeat the study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotFree:
    """Worker to supervisor: give me a trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Worker to supervisor: something that whoever watches should know."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """Worker to supervisor: a trial that was started goes on from its checkpoint."""

    number: int
    step: int
    """How many are behind it."""
    curve: tuple[StepMetrics, ...]
    """What was measured of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Worker to supervisor: a step is done."""

    number: int
    metrics: StepMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Worker to supervisor: a trial has spent its budget or was pruned."""

    number: int
    result: TrialResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Worker to supervisor: a trial, or with `number` None the worker itself, cannot go on."""

    number: int | None
    kind: str
    message: str
    again: bool = False
    """Whether the same trial, run again, may well get through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Supervisor to worker, first of all: get ready for trials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TryReward:
    """Supervisor to worker, first of all: sample the base policy on so many prompts, send the `Preview`, and end."""

    prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Supervisor to worker: run this trial."""

    spec: TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Supervisor to worker: end this trial at its next step, and score it."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Supervisor to worker: end this trial at its next step; nobody wants its score."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Supervisor to worker: no more trials."""


FromWorker = Ready | Preview | SlotFree | Stage | TrialsStage | Note | Resumed | Progress | Finished | Failed
ToWorker = Train | TryReward | Start | Prune | Drop | Stop
