"""Progress that moves: the study in one line, and a line for each running trial under those of ended ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from threading import Lock

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from objectives.trial.messages import Ready, StepMetrics, TrialSpec
from sweep.live_display.notebook import NotebookLive
from sweep.live_display.text import Pace, adapter, added_line, ended_line, places_of, ready_line, resumed_line
from sweep.text import count

SPARKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
"""An eighth of a line's height to all of it."""
BESIDE_SPARKS = 70
"""Columns of a trial's line that are not its sparkline."""
NARROWEST, WIDEST = 8, 48


@dataclass(slots=True)
class RunningLine:
    """What is known of a running trial."""

    spec: TrialSpec
    worker: int = 0
    step: int = 0
    rewards: list[float] = field(default_factory=list)
    doing: str = ""


class LiveProgress:
    """For a terminal, and for a notebook."""

    def __init__(self, console: Console) -> None:
        self._console = console
        # Rich draws in a thread of its own. Nothing is printed while this is held: printing waits for that thread.
        self._lock = Lock()
        self._pace = Pace()
        self._decimals = 3
        self._trials: dict[int, RunningLine] = {}
        self._workers: dict[int, str] = {}
        self._note = ""
        self._live = NotebookLive(self, console=console) if console.is_jupyter else Live(self, console=console)

    def __rich__(self) -> RenderableType:
        """As it stands now."""
        with self._lock:
            note = [Text(self._note, style="dim")] if self._note else []
            return Group(self._study(), *self._work(), *note)

    def begin(self, *, done: int, trials: int, steps: int) -> None:
        """See `ProgressDisplay`."""
        with self._lock:
            self._pace.trials, self._pace.steps, self._pace.ended = trials, steps, done
        self._live.start()

    def added(self, *, trials: int) -> None:
        """See `ProgressDisplay`."""
        with self._lock:
            self._pace.trials = trials
        self._print(added_line(trials))

    def note(self, text: str) -> None:
        """See `ProgressDisplay`."""
        with self._lock:
            self._note = text

    def ready(self, ready: Ready) -> None:
        """See `ProgressDisplay`."""
        with self._lock:
            self._note, self._workers[0] = "", "ready"
            self._decimals = places_of(ready)
        self._print(ready_line(ready, self._decimals))

    def worker_is(self, k: int, doing: str) -> None:
        """See `ProgressDisplay`."""
        with self._lock:
            self._workers[k] = doing

    def trial_started(self, spec: TrialSpec, *, worker: int = 0) -> None:
        """See `ProgressDisplay`."""
        with self._lock:
            self._workers[worker] = "ready"
            self._trials[spec.number] = RunningLine(spec, worker)

    def resumed(self, spec: TrialSpec, step: int, curve: Sequence[StepMetrics]) -> None:
        """See `ProgressDisplay`."""
        with self._lock:
            line = self._trials[spec.number]
            self._pace.resumed(spec.number, curve)
            line.step, line.rewards = step, [metrics.reward for metrics in curve]
        self._print(resumed_line(spec, step, self._pace.steps))

    def trials_are(self, doing: str, trials: Sequence[int]) -> None:
        """See `ProgressDisplay`."""
        with self._lock:
            for number in trials:
                if number in self._trials:
                    self._trials[number].doing = doing

    def step(self, spec: TrialSpec, metrics: StepMetrics) -> None:
        """See `ProgressDisplay`."""
        with self._lock:
            self._pace.count(spec.number, metrics)
            line = self._trials[spec.number]
            line.step = metrics.step
            line.rewards.append(metrics.reward)

    def trial_ended(self, spec: TrialSpec, *, score: float | None, reason: str | None, again: bool = False) -> None:
        """See `ProgressDisplay`."""
        with self._lock:
            self._trials.pop(spec.number)
            self._pace.ended += not again
        self._print(ended_line(spec, score, reason, self._decimals, again=again))

    def tick(self) -> None:
        """Lets a notebook draw; a terminal is drawn by itself."""
        if isinstance(self._live, NotebookLive):
            self._live.refresh()

    def end(self) -> None:
        """See `ProgressDisplay`."""
        self._live.stop()

    def _print(self, text: str) -> None:
        self._live.console.print(text, highlight=False, markup=False)

    def _study(self) -> RenderableType:
        """How far the study is, how fast it samples, and how long it will take."""
        rate = self._pace.tokens_per_second
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_row(
            "trials",
            ProgressBar(total=max(1, self._pace.trials), completed=self._pace.ended, width=20),
            f"{self._pace.ended}/{self._pace.trials}",
            "" if rate is None else f"{count(rate)} tokens/s",
            self._pace.time_left(trial.step for trial in self._trials.values()),
        )
        return grid

    def _work(self) -> Iterator[RenderableType]:
        """Running trials, under a line for their worker where there are several; what a worker without trials does."""
        for k, doing in sorted(self._workers.items()):
            trials = {number: trial for number, trial in sorted(self._trials.items()) if trial.worker == k}
            if len(self._workers) > 1:
                yield Text(f"worker {k}: {doing}", style="dim")
            elif not trials and doing != "ready":
                yield Text(doing, style="dim")
            if trials:
                yield self._running(trials)

    def _running(self, trials: Mapping[int, RunningLine]) -> RenderableType:
        grid = Table.grid(padding=(0, 2, 0, 0))
        width = min(WIDEST, max(NARROWEST, self._console.width - BESIDE_SPARKS))
        for number, trial in trials.items():
            grid.add_row(
                f"trial {number}",
                f"{adapter(trial.spec)} rate={trial.spec.learning_rate:g} {trial.spec.target_set}".rstrip(),
                f"{trial.step}/{self._pace.steps}",
                f"{trial.rewards[-1]:.{self._decimals}f}" if trial.rewards else "",
                Text(sparkline(trial.rewards, width=width), style="cyan"),
                Text(trial.doing, style="dim"),
            )
        return grid


def sparkline(values: Sequence[float], *, width: int) -> str:
    """Values as a line of blocks, from the lowest to the highest; means of neighbours where there are too many."""
    n = min(width, len(values))
    means = [fmean(values[k * len(values) // n : (k + 1) * len(values) // n]) for k in range(n)]
    low, high = (min(means), max(means)) if means else (0.0, 0.0)
    if high <= low:
        return SPARKS[3] * n
    return "".join(SPARKS[min(len(SPARKS) - 1, int((mean - low) / (high - low) * len(SPARKS)))] for mean in means)
