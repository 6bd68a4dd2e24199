"""What progress says, wherever it is shown: the trials, the base policy, the time that is left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence

from objectives.figures import decimals
from objectives.trial.messages import Ready, StepMetrics, TrialSpec
from sweep.text import duration

RATE_S = 30.0
"""Seconds that tokens per second are averaged over."""


def describe(spec: TrialSpec) -> str:
    """A trial in a few words."""
    rslora = ", rsLoRA" if spec.lora and spec.lora.use_rslora else ""
    modules = f" on {spec.target_set}" if spec.target_set else ""
    rate = f"learning rate={spec.learning_rate:g}"
    return f"trial {spec.number}  {adapter(spec)} {rate}{rslora}{modules} seed={spec.seed}"


def adapter(spec: TrialSpec) -> str:
    """What a trial trains, as `r=4 alpha=16`."""
    return "all weights" if spec.lora is None else f"r={spec.lora.r} alpha={spec.lora.alpha}"


class Pace:
    """How fast trials go, by the steps done since it was made."""

    def __init__(self) -> None:
        self.trials = self.steps = self.ended = 0
        self._steps_done = 0
        self._first_step: float | None = None
        self._tokens: dict[int, int] = {}
        self._sampled: deque[tuple[float, int]] = deque()

    def count(self, number: int, metrics: StepMetrics) -> None:
        """A trial has done a step."""
        now = time.monotonic()
        self._first_step = self._first_step or now
        self._steps_done += 1
        self._sampled.append((now, metrics.tokens - self._tokens.get(number, 0)))
        self._tokens[number] = metrics.tokens
        while self._sampled[0][0] < now - RATE_S:
            self._sampled.popleft()

    def resumed(self, number: int, curve: Sequence[StepMetrics]) -> None:
        """A trial goes on: what is behind it was not sampled now."""
        self._tokens[number] = curve[-1].tokens if curve else 0

    @property
    def tokens_per_second(self) -> float | None:
        """Completion tokens sampled lately; None before two steps are done."""
        if len(self._sampled) < 2 or (passed := time.monotonic() - self._sampled[0][0]) <= 0:
            return None
        # The first step's tokens were sampled before the time that is counted began.
        return sum(tokens for _, tokens in list(self._sampled)[1:]) / passed

    def time_left(self, running_steps: Iterable[int]) -> str:
        """As `3 min left`; empty before there is anything to go by."""
        if self._first_step is None or self._steps_done < 5:
            return ""
        left = (self.trials - self.ended) * self.steps - sum(running_steps)
        return f"{duration((time.monotonic() - self._first_step) / self._steps_done * max(left, 0))} left"


def ready_line(ready: Ready, places: int) -> str:
    """What the base policy scores, and which prompts were left out."""
    base = ready.baseline
    greedy = "" if base.greedy is None else f", {base.greedy:.{places}f} greedy"
    prompts = base.prompts + base.unscored
    lines = [f"base policy: held-out reward {base.sampled:.{places}f} sampled{greedy}, {prompts} prompts"]
    if base.unscored:
        lines.append(
            f"{base.unscored} of {prompts} held-out completions have no reward "
            f"(every function returned None), one to {base.unscored_prompt}"
        )
    if left_out := ready.facts.get("prompts", {}).get("left_out"):
        lines.append(left_out)
    return "\n".join(lines)


def places_of(ready: Ready) -> int:
    """Decimals for the study's rewards: as many as their spread asks for."""
    return decimals(ready.baseline.spread or 0.0)


def added_line(trials: int) -> str:
    """Somebody has added a point: how many trials there are now."""
    return f"a point was added: {trials} trials in all"


def resumed_line(spec: TrialSpec, done: int, steps: int) -> str:
    """Where a trial goes on from its checkpoint."""
    return f"trial {spec.number}  going on at step {done + 1} of {steps}"


def ended_line(spec: TrialSpec, score: float | None, reason: str | None, places: int, *, again: bool) -> str:
    """How a trial has ended: with a held-out score, or with the reason why it has none."""
    if again:
        return f"{describe(spec)}: {reason}; it will be run again, from its checkpoint if it has one"
    outcome = "failed" if score is None else f"held-out reward {score:.{places}f}"
    return f"{describe(spec)}: {outcome}" + (f" ({reason})" if reason else "")
