"""A few steps of one real trial, to say how long a study will take."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from objectives.errors import ModelConfigError
from objectives.lora import LoraSpec, modules_of
from objectives.trial.messages import (
    Failed,
    Finished,
    Progress,
    Ready,
    SlotFree,
    Start,
    TrialResult,
    TrialSpec,
)
from sweep.errors import TrialsFailedError
from sweep.planning.adapters import read_model
from sweep.planning.measured import Measured
from sweep.planning.target_sets import largest_set
from sweep.running.worker_process import WorkerDiedError, WorkerProcess
from sweep.study.file import StudyFile

STEPS = 8
"""Steps of the trial."""
TYPICAL_STEPS = (3, 4, 5, 6, 7)
"""Steps to time: not the first, which warms up, nor the last, which a score may fall into."""


def calibrate(config: StudyFile) -> Measured:
    """Runs the trial in a worker of its own, on the study's model, task and batch; as often as fit into its pack.

    Nothing is stored.

    Raises:
        TrialsFailedError: where the worker cannot load, or the trial fails.
    """
    short = config.model_copy(update={"budget": config.budget.model_copy(update={"steps": STEPS})})
    spec = largest_trial(config)
    began = time.perf_counter()
    numbers = itertools.count()
    steps: dict[int, Progress] = {}
    loaded = began
    with tempfile.TemporaryDirectory(prefix="rank-sweep-") as folder:
        log = Path(folder) / "worker.log"
        with _failing_as_one(), WorkerProcess(short.worker_settings(Path(folder)), log) as worker:
            while True:
                match worker.wait():
                    case Ready():
                        loaded = time.perf_counter()
                    case SlotFree():
                        # As many copies as the pack has slots: a step's time is that of a full pack.
                        worker.send(Start(spec=dataclasses.replace(spec, number=next(numbers))))
                    case Progress() as progress:
                        steps[progress.metrics.step] = progress
                    case Failed(message=message):
                        raise TrialsFailedError(f"the calibration failed: {message}")
                    case Finished(result=result):
                        return _measured(config, spec, result, steps, load_seconds=loaded - began)


def largest_trial(config: StudyFile) -> TrialSpec:
    """The trial at the largest rank, with the largest set of target modules, and in the middle of the other ladders."""
    space, largest = config.search_space(), _largest_set(config)
    return TrialSpec(
        number=0,
        lora=LoraSpec(
            r=space.r[-1],
            alpha=space.middle_alpha(space.r[-1]),
            target_modules=config.modules_of(largest),
            dropout=config.model.lora_dropout,
            use_rslora=space.use_rslora[0],
        ),
        learning_rate=space.learning_rate[len(space.learning_rate) // 2],
        seed=config.study.seed,
        target_set=largest or "",
    )


def _largest_set(config: StudyFile) -> str | None:
    sets = config.space.target_modules
    try:
        return largest_set(config, read_model(config.model.name).shape)
    except ModelConfigError:  # of a model whose shape is not known: the set of most modules
        return max(sets, key=lambda name: len(modules_of(name))) if sets else None


@contextmanager
def _failing_as_one() -> Iterator[None]:
    try:
        yield
    except WorkerDiedError as death:
        raise TrialsFailedError(f"the calibration failed: {death}") from death


def _measured(
    config: StudyFile, spec: TrialSpec, result: TrialResult, steps: dict[int, Progress], *, load_seconds: float
) -> Measured:
    typical = [steps[step].metrics for step in TYPICAL_STEPS]
    step_seconds = statistics.median(metrics.seconds for metrics in typical)
    build, evaluation = result.seconds["build"], result.seconds["evaluate"]
    slots = config.learner.slots
    # A step of a pack moves all of its trials, so each one's share of it is a slot's.
    trial_seconds = build + config.budget.steps * step_seconds / slots + evaluation
    return Measured(
        r=spec.r,
        load_seconds=load_seconds,
        slots=slots,
        step_seconds=step_seconds,
        build_seconds=build,
        evaluation_seconds=evaluation,
        trial_seconds=trial_seconds,
        study_seconds=load_seconds + config.search.trials * trial_seconds,
        mean_completion_tokens=statistics.fmean(metrics.completion_length for metrics in typical),
        base=result.base,
    )
