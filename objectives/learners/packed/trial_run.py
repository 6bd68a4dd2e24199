"""One trial of a pack under way: its slot, its prompts, and what it has to show so far."""

from __future__ import annotations

import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from objectives.engines.protocol import Completion
from objectives.figures import decimals
from objectives.learners.effective_rank import effective_ranks
from objectives.learners.packed.checkpoint import Checkpoint, Counters
from objectives.learners.packed.schedule import learner_schedule
from objectives.learners.packed.slots import SlotAdapter
from objectives.learners.packed.step import Stepper
from objectives.policies.protocol import needed
from objectives.settings.sections import WorkerSettings
from objectives.trial.evaluation import TRAINING, sampling_seeds
from objectives.trial.messages import HeldOutScore, StepMetrics, TrialResult, TrialSpec, trial_log, trial_name


def prompt_order(rows: int, prompts: int, seed: int) -> Iterator[list[int]]:
    """The rows that a trial asks for in each rollout: those, in that order, that TRL 1.13's RepeatSampler gives it.

    Args:
        rows: How many there are to train on.
        prompts: How many a rollout takes. What is left over at the end of an epoch is dropped.
        seed: The trial's.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(rows, generator=generator).tolist()
        for start in range(0, rows - prompts + 1, prompts):
            yield order[start : start + prompts]


class TrialRun:
    """A trial in its slot. Everything random about it is a function of its own seed."""

    def __init__(self, spec: TrialSpec, adapter: SlotAdapter, order: Iterator[list[int]], *, steps: int, log: Path):
        self.spec, self.adapter, self.order = spec, adapter, order
        self.owner = trial_name(spec.number)
        self.step = self.tokens = self.rollouts = 0
        self.boundary = Counters(step=0, tokens=0)
        """Where it stood when it last had done all steps on a rollout."""
        self.scores: list[HeldOutScore] = []
        self.curve: list[StepMetrics] = []
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._budget, self._log = steps, log
        self._step_began = time.perf_counter()
        log.parent.mkdir(parents=True, exist_ok=True)

    @property
    def slot(self) -> int:
        """Where in the pack its adapter is."""
        return self.adapter.k

    @property
    def spent(self) -> bool:
        """Whether it has taken all of its steps."""
        return self.step >= self._budget

    @property
    def due(self) -> bool:
        """Whether it is to be scored now: on the way, or at its end."""
        return self.spent or self.step in self.spec.score_after

    def seeds(self, n: int) -> list[int]:
        """Sampling seeds for the next rollout."""
        return sampling_seeds(self.spec.seed, TRAINING, self.rollouts, n=n)

    def sampled(self, completions: Sequence[Completion]) -> None:
        """Counts a rollout."""
        self.rollouts += 1
        self.tokens += sum(len(completion.token_ids) for completion in completions)

    def lap(self) -> float:
        """Seconds since the last lap, or the start."""
        now = time.perf_counter()
        seconds, self._step_began = now - self._step_began, now
        return seconds

    def scored(self, score: HeldOutScore) -> None:
        """Keeps a held-out score."""
        self.scores.append(score)
        self.log(f"step {score.step}: held-out reward {score.sampled:.{decimals(score.spread or 0.0)}f}")

    def resume(self, saved: Checkpoint, *, rollouts: int) -> None:
        """Stands where a checkpoint of it was written, after so many rollouts."""
        self.step, self.tokens, self.rollouts = saved.counters.step, saved.counters.tokens, rollouts
        self.boundary = saved.counters
        self.scores, self.curve = list(saved.scores), list(saved.curve)
        self.seconds.update(saved.seconds)
        # The order is drawn again as far as it had come: a generator's state is in no checkpoint.
        for _ in range(rollouts):
            next(self.order)
        self.log(f"going on at step {self.step + 1} of {self._budget}")

    def reported(self, metrics: StepMetrics) -> None:
        """Keeps a step, and writes its line to the trial's log."""
        self.curve.append(metrics)
        self.log(
            f"step {metrics.step}/{self._budget}: reward {metrics.reward:.{decimals(metrics.reward_std)}f}, "
            f"{metrics.groups_without_signal:.0%} of groups without signal, {metrics.seconds:.2f} s"
        )

    def log(self, line: str) -> None:
        """Appends to the trial's own log: what several trials print at once could not be told apart."""
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")

    def log_error(self, error: BaseException) -> None:
        """Appends a traceback to the trial's log."""
        self.log("".join(traceback.format_exception(error)).rstrip())

    def result(self, *, adapter: str | None, base: HeldOutScore) -> TrialResult:
        """What the trial has measured, now that it has ended.

        Args:
            adapter: Where its adapter was kept.
            base: The base policy's score under its seed.
        """
        return TrialResult(
            scores=tuple(self.scores),
            steps=self.step,
            pruned=not self.spent,
            tokens=self.tokens,
            adapter_parameters=self.adapter.parameters,
            seconds=dict(self.seconds),
            adapter=adapter,
            base=base,
            effective_ranks=effective_ranks(self.adapter.factors()),
        )


def begin_run(k: int, spec: TrialSpec, *, settings: WorkerSettings, stepper: Stepper, prompts: int) -> TrialRun:
    """Puts a new trial into slot k.

    Raises:
        PolicyError: where a pack cannot hold such an adapter.
    """
    began, budget = time.perf_counter(), settings.budget
    name = stepper.pack.model.config.name_or_path
    adapter = SlotAdapter(stepper.pack, k, needed(spec.lora), seed=spec.seed, base_name=name)
    stepper.optimizer.reset(k, spec.learning_rate, learner_schedule(settings.learner, steps=budget.steps))
    order = prompt_order(prompts, budget.prompts_per_step, spec.seed)
    run = TrialRun(spec, adapter, order, steps=budget.steps, log=trial_log(settings.log_folder, spec.number))
    run.seconds["build"] = time.perf_counter() - began
    return run


def write_error(log: Path, error: BaseException) -> None:
    """Has a traceback in the log of a trial that never came to run."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")


@contextmanager
def shared_time(runs: Sequence[TrialRun], name: str) -> Iterator[None]:
    """Charges each trial its share of what they spend together, so that shares add up to the worker's time."""
    began = time.perf_counter()
    try:
        yield
    finally:
        for run in runs:
            run.seconds[name] += (time.perf_counter() - began) / len(runs)
