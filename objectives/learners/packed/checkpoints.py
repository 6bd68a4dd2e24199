"""When the trials of a pack are written down, and how one that comes again goes on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from objectives.learners.packed.checkpoint import (
    Checkpoint,
    CheckpointError,
    Counters,
    read_checkpoint,
    write_checkpoint,
)
from objectives.learners.packed.optimizer import PackedAdamW
from objectives.learners.packed.trial_run import TrialRun, shared_time
from objectives.learners.protocol import TrialFeed
from objectives.settings.sections import WorkerSettings
from objectives.trial.checkpoint_file import checkpoint_file

SHARE = 0.02
"""Of a worker's time that checkpoints may take; where they would take more, they are written more rarely."""


class Checkpoints:
    """The checkpoints of one pack's trials."""

    def __init__(self, settings: WorkerSettings, optimizer: PackedAdamW, feed: TrialFeed) -> None:
        self._settings, self._optimizer, self._feed = settings, optimizer, feed
        self._slots = len(optimizer.weights)
        self._saved: dict[int, float] = {}
        self._interval_s = settings.run.checkpoint_s
        self._told: set[str] = set()

    def resume(self, run: TrialRun) -> None:
        """Puts a new trial where its checkpoint stands, if it has one; the feed is told what came of it."""
        self._saved[run.spec.number] = time.monotonic()
        path = checkpoint_file(self._settings.log_folder, run.spec)
        try:
            saved = read_checkpoint(path, run.spec, self._settings)
        except FileNotFoundError:
            return
        except CheckpointError as error:
            self._feed.note(f"trial {run.spec.number} starts anew, its checkpoint is of no use: {error}")
            return
        steps = saved.counters.step
        if steps > self._settings.budget.steps:
            self._feed.note(f"trial {run.spec.number} starts anew: its checkpoint is of step {steps}")
            return
        with torch.no_grad():
            for name, view in self._views(run):
                view.copy_(saved.tensors[name])
        self._optimizer.steps[run.slot] = saved.counters.updates
        run.resume(saved, rollouts=steps // self._settings.learner.num_iterations)
        self._feed.resumed(run.spec.number, steps, saved.curve)

    def between_rollouts(self, runs: Iterable[TrialRun]) -> None:
        """To be called when trials have done all steps on a rollout and not asked for the next: writes what is due."""
        for run in runs:
            run.boundary = self._counters(run)
            if time.monotonic() - self._saved[run.spec.number] >= self._interval_s:
                self._write(run)

    def save(self, runs: Iterable[TrialRun]) -> None:
        """Writes trials that are about to end, as they were between two rollouts; where that is past, nothing."""
        for run in runs:
            if run.step and run.step == run.boundary.step and not self._optimizer.updating:
                self._write(run)

    def keep(self, run: TrialRun) -> None:
        """Writes a trial that has spent its budget, where the study keeps checkpoints."""
        if self._settings.run.keep_checkpoints and run.spent and not run.step % self._settings.learner.num_iterations:
            run.boundary = self._counters(run)
            self._write(run)

    def _counters(self, run: TrialRun) -> Counters:
        return Counters(step=run.step, tokens=run.tokens, updates=self._optimizer.steps[run.slot])

    def _write(self, run: TrialRun) -> None:
        began = time.monotonic()
        with shared_time([run], "checkpoint"):
            self._store(run)
        self._saved[run.spec.number] = now = time.monotonic()
        wanted_s = self._settings.run.checkpoint_s
        # Every slot writes once an interval, and all of them together may take SHARE of it.
        self._interval_s = max(wanted_s, (now - began) * self._slots / SHARE)
        if self._interval_s > 2 * wanted_s:
            self._tell_once(
                f"a checkpoint takes {now - began:.2g} s: trials are written every {self._interval_s:.0f} s, "
                f"not every {wanted_s:g}"
            )

    def _store(self, run: TrialRun) -> None:
        checkpoint = Checkpoint(
            spec=run.spec,
            # Not as they stand: a rollout that is under way may have counted its tokens already.
            counters=run.boundary,
            scores=tuple(run.scores),
            curve=tuple(run.curve),
            seconds=run.seconds,
            tensors={name: view.to("cpu", copy=True).contiguous() for name, view in self._views(run)},
        )
        try:
            write_checkpoint(checkpoint_file(self._settings.log_folder, run.spec), checkpoint, self._settings)
        except OSError as error:
            self._tell_once(f"checkpoints cannot be written, and the study goes on without: {error}")

    def _views(self, run: TrialRun) -> Iterator[tuple[str, Tensor]]:
        """What a trial's file holds, by name, where it lies in the pack and in its optimizer."""
        optimizer, k = self._optimizer, run.slot
        for suffix, rows in (("", optimizer.weights), (".first", optimizer.first), (".second", optimizer.second)):
            for module, (A, B) in run.adapter.parts_of(rows[k]).items():  # noqa: N806
                yield f"{module}.A{suffix}", A
                yield f"{module}.B{suffix}", B

    def _tell_once(self, text: str) -> None:
        kind = text.split(":", maxsplit=1)[0].split(" takes ", maxsplit=1)[0]
        if kind not in self._told:
            self._told.add(kind)
            self._feed.note(text)
