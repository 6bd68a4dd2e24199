"""What a person sees while a study runs: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from objectives.figures import decimals
from objectives.trial.messages import Ready, StepMetrics, TrialSpec
from sweep.running.notebook_live import NotebookLive


class ProgressDisplay(Protocol):
    """Told of everything that happens, in order."""

    def begin(self, *, done: int, trials: int, steps: int) -> None:
        """The study begins or goes on, with so many of its trials done."""

    def note(self, text: str) -> None:
        """Something worth a line happened."""

    def ready(self, ready: Ready) -> None:
        """A worker is ready."""

    def trial_started(self, spec: TrialSpec) -> None:
        """A trial has begun."""

    def step(self, spec: TrialSpec, metrics: StepMetrics) -> None:
        """A trial has done a step."""

    def trial_ended(self, spec: TrialSpec, *, score: float | None, reason: str | None) -> None:
        """A trial has ended: with a held-out score, or with the reason why it has none."""

    def tick(self) -> None:
        """Some time has passed."""

    def end(self) -> None:
        """The study has stopped."""


def describe(spec: TrialSpec) -> str:
    """A trial in a few words."""
    rslora = ", rsLoRA" if spec.lora.use_rslora else ""
    return (
        f"trial {spec.number}  r={spec.lora.r} alpha={spec.lora.alpha} "
        f"learning rate={spec.learning_rate:g}{rslora} seed={spec.seed}"
    )


def make_progress(console: Console) -> ProgressDisplay:
    """Live bars on a terminal and in a notebook, lines elsewhere."""
    return LiveProgress(console) if console.is_terminal or console.is_jupyter else LineProgress(console)


class _Pace:
    """Estimates the time left from the steps done since it was made."""

    def __init__(self) -> None:
        self.trials = self.steps = self.ended = 0
        self._steps_done = 0
        self._first_step: float | None = None

    def count_step(self) -> None:
        """A step is done."""
        self._first_step = self._first_step or time.monotonic()
        self._steps_done += 1

    def time_left(self, running_steps: Iterable[int]) -> str:
        """As `3 min left`; empty before there is anything to go by."""
        if self._first_step is None or self._steps_done < 5:
            return ""
        left = (self.trials - self.ended) * self.steps - sum(running_steps)
        seconds = (time.monotonic() - self._first_step) / self._steps_done * max(left, 0)
        return f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"


def _ready_line(ready: Ready, places: int) -> str:
    base = ready.baseline
    lines = [
        f"base policy: held-out reward {base.sampled:.{places}f} sampled, {base.greedy:.{places}f} greedy, "
        f"{base.prompts + base.unscored} prompts"
    ]
    if base.unscored:
        lines.append(
            f"{base.unscored} of {base.prompts + base.unscored} held-out completions have no reward "
            f"(every function returned None), one to {base.unscored_prompt}"
        )
    if left_out := ready.facts.get("prompts", {}).get("left_out"):
        lines.append(left_out)
    return "\n".join(lines)


def _places(ready: Ready) -> int:
    """Decimals for the study's rewards: as many as their spread asks for."""
    return decimals(ready.baseline.spread or 0.0)


def _ended_line(spec: TrialSpec, score: float | None, reason: str | None, places: int) -> str:
    if reason == "interrupted":
        return f"{describe(spec)}: interrupted; it will be run again from its start"
    outcome = "failed" if score is None else f"held-out reward {score:.{places}f}"
    return f"{describe(spec)}: {outcome}" + (f" ({reason})" if reason else "")


class LineProgress:
    """A line when a trial starts, some while it runs, and one when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pace = _Pace()
        self._decimals = 3
        self._steps: dict[int, int] = {}

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(self, *, done: int, trials: int, steps: int) -> None:
        """See `ProgressDisplay`."""
        self._pace.trials, self._pace.steps, self._pace.ended = trials, steps, done
        self._print(f"{trials} trials of {steps} steps, {done} done")

    def note(self, text: str) -> None:
        """See `ProgressDisplay`."""
        self._print(text)

    def ready(self, ready: Ready) -> None:
        """See `ProgressDisplay`."""
        self._decimals = _places(ready)
        self._print(_ready_line(ready, self._decimals))

    def trial_started(self, spec: TrialSpec) -> None:
        """See `ProgressDisplay`."""
        self._steps[spec.number] = 0
        self._print(describe(spec))

    def step(self, spec: TrialSpec, metrics: StepMetrics) -> None:
        """Prints a quarter's step."""
        self._steps[spec.number] = metrics.step
        self._pace.count_step()
        if metrics.step % max(1, self._pace.steps // 4) == 0:
            left = self._pace.time_left(self._steps.values())
            self._print(
                f"  trial {spec.number}  step {metrics.step}/{self._pace.steps}  "
                f"reward {metrics.reward:.{self._decimals}f}  {left}"
            )

    def trial_ended(self, spec: TrialSpec, *, score: float | None, reason: str | None) -> None:
        """See `ProgressDisplay`."""
        self._steps.pop(spec.number, None)
        self._pace.ended += score is not None
        self._print(f"[{self._pace.ended}/{self._pace.trials}] {_ended_line(spec, score, reason, self._decimals)}")

    def tick(self) -> None:
        """Nothing moves between lines."""

    def end(self) -> None:
        """Nothing is left to take down."""


class LiveProgress:
    """One bar for the study and one for each running trial, under the lines of ended trials."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pace = _Pace()
        self._decimals = 3
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[news]}"), console=console,
        )  # fmt: skip
        self._study: TaskID | None = None
        self._trials: dict[int, TaskID] = {}
        self._note = Text(style="dim")
        shown = Group(self._bars, self._note)
        self._live: Live | NotebookLive
        if console.is_jupyter:
            self._live = NotebookLive(shown, console=console)
        else:
            self._live = Live(shown, console=console, refresh_per_second=4)

    def begin(self, *, done: int, trials: int, steps: int) -> None:
        """See `ProgressDisplay`."""
        self._pace.trials, self._pace.steps, self._pace.ended = trials, steps, done
        self._study = self._bars.add_task("trials", total=trials, completed=done, news="")
        self._live.start()

    def note(self, text: str) -> None:
        """See `ProgressDisplay`."""
        self._note.plain = text

    def ready(self, ready: Ready) -> None:
        """See `ProgressDisplay`."""
        self._note.plain = ""
        self._decimals = _places(ready)
        self._live.console.print(_ready_line(ready, self._decimals), highlight=False, markup=False)

    def trial_started(self, spec: TrialSpec) -> None:
        """See `ProgressDisplay`."""
        self._trials[spec.number] = self._bars.add_task(describe(spec), total=self._pace.steps, news="")

    def step(self, spec: TrialSpec, metrics: StepMetrics) -> None:
        """See `ProgressDisplay`."""
        self._pace.count_step()
        news = f"reward {metrics.reward:.{self._decimals}f}"
        self._bars.update(self._trials[spec.number], completed=metrics.step, news=news)

    def trial_ended(self, spec: TrialSpec, *, score: float | None, reason: str | None) -> None:
        """See `ProgressDisplay`."""
        self._bars.remove_task(self._trials.pop(spec.number))
        self._pace.ended += score is not None
        line = _ended_line(spec, score, reason, self._decimals)
        self._live.console.print(line, highlight=False, markup=False)

    def tick(self) -> None:
        """Moves the study's bar and its time left."""
        if self._study is not None:
            running = [self._bars.tasks[self._bars.task_ids.index(task)].completed for task in self._trials.values()]
            left = self._pace.time_left(int(steps) for steps in running)
            self._bars.update(self._study, completed=self._pace.ended, news=left)
        if isinstance(self._live, NotebookLive):
            self._live.refresh()

    def end(self) -> None:
        """See `ProgressDisplay`."""
        self._live.stop()
