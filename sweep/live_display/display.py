"""What a person sees while a study runs, and who shows it: plain lines here, what moves in `live`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.console import Console

from objectives.trial.messages import Ready, StepMetrics, TrialSpec
from sweep.live_display.text import Pace, added_line, describe, ended_line, places_of, ready_line, resumed_line


class ProgressDisplay(Protocol):
    """Told of everything that happens, in order."""

    def begin(self, *, done: int, trials: int, steps: int) -> None:
        """The study begins or goes on, with so many of its trials done."""

    def added(self, *, trials: int) -> None:
        """Somebody has added a point: there are so many trials in all now."""

    def note(self, text: str) -> None:
        """Something worth a line happened."""

    def ready(self, ready: Ready) -> None:
        """A worker is ready, and has scored the base policy."""

    def worker_is(self, k: int, doing: str) -> None:
        """What worker k does while it has no trials yet; the last of it is "ready"."""

    def trial_started(self, spec: TrialSpec, *, worker: int = 0) -> None:
        """A trial has begun, in this worker."""

    def resumed(self, spec: TrialSpec, step: int, curve: Sequence[StepMetrics]) -> None:
        """A trial that has begun goes on from its checkpoint, with so many steps behind it."""

    def trials_are(self, doing: str, trials: Sequence[int]) -> None:
        """What happens to these running trials from here on: building, rolling out, training or scoring."""

    def step(self, spec: TrialSpec, metrics: StepMetrics) -> None:
        """A trial has done a step."""

    def trial_ended(self, spec: TrialSpec, *, score: float | None, reason: str | None, again: bool = False) -> None:
        """A trial has ended: with a held-out score, or with the reason why it has none, perhaps to be run again."""

    def tick(self) -> None:
        """Some time has passed."""

    def end(self) -> None:
        """The study has stopped."""


def make_progress(console: Console) -> ProgressDisplay:
    """What moves on a terminal and in a notebook, lines elsewhere."""
    if not (console.is_terminal or console.is_jupyter):
        return LineProgress(console)
    from sweep.live_display.live import LiveProgress

    return LiveProgress(console)


class LineProgress:
    """A line when a trial starts, some while it runs, and one when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pace = Pace()
        self._decimals = 3
        self._steps: dict[int, int] = {}

    def _print(self, text: str) -> None:
        # Without soft_wrap, Rich breaks lines at 80 columns where there is no terminal.
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(self, *, done: int, trials: int, steps: int) -> None:
        """See `ProgressDisplay`."""
        self._pace.trials, self._pace.steps, self._pace.ended = trials, steps, done
        self._print(f"{trials} trials of {steps} steps, {done} done")

    def added(self, *, trials: int) -> None:
        """See `ProgressDisplay`."""
        self._pace.trials = trials
        self._print(added_line(trials))

    def note(self, text: str) -> None:
        """See `ProgressDisplay`."""
        self._print(text)

    def ready(self, ready: Ready) -> None:
        """See `ProgressDisplay`."""
        self._decimals = places_of(ready)
        self._print(ready_line(ready, self._decimals))

    def worker_is(self, k: int, doing: str) -> None:
        """Prints what the first does; what others do is the same, so only that they are ready."""
        if k == 0 or doing == "ready":
            self._print(doing if k == 0 else f"worker {k} is ready")

    def trial_started(self, spec: TrialSpec, *, worker: int = 0) -> None:
        """See `ProgressDisplay`."""
        self._steps[spec.number] = 0
        self._print(describe(spec))

    def resumed(self, spec: TrialSpec, step: int, curve: Sequence[StepMetrics]) -> None:
        """See `ProgressDisplay`."""
        self._steps[spec.number] = step
        self._pace.resumed(spec.number, curve)
        self._print(f"  {resumed_line(spec, step, self._pace.steps)}")

    def trials_are(self, doing: str, trials: Sequence[int]) -> None:
        """Not worth a line."""

    def step(self, spec: TrialSpec, metrics: StepMetrics) -> None:
        """Prints a quarter's step."""
        self._steps[spec.number] = metrics.step
        self._pace.count(spec.number, metrics)
        if metrics.step % max(1, self._pace.steps // 4) == 0:
            left = self._pace.time_left(self._steps.values())
            self._print(
                f"  trial {spec.number}  step {metrics.step}/{self._pace.steps}  "
                f"reward {metrics.reward:.{self._decimals}f}  {left}"
            )

    def trial_ended(self, spec: TrialSpec, *, score: float | None, reason: str | None, again: bool = False) -> None:
        """See `ProgressDisplay`."""
        self._steps.pop(spec.number, None)
        self._pace.ended += not again
        self._print(
            f"[{self._pace.ended}/{self._pace.trials}] {ended_line(spec, score, reason, self._decimals, again=again)}"
        )

    def tick(self) -> None:
        """Nothing moves between lines."""

    def end(self) -> None:
        """Nothing is left to take down."""
