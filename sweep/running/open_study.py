"""A stored study that this process alone runs: opened or made, locked, and given its workers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna

from objectives.settings.sections import WorkerSettings
from sweep.live_display.display import ProgressDisplay
from sweep.running.supervisor import Supervisor
from sweep.running.trial_schedule import TrialSchedule
from sweep.running.where import make_workers
from sweep.running.workers import Workers
from sweep.storage.attributes import SOURCES
from sweep.storage.bulk import BulkStorage
from sweep.storage.database import create_or_match_study, log_folder
from sweep.storage.schema import CURRENT
from sweep.storage.writer import sole_writer
from sweep.study.file import StudyFile


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStudy:
    """A stored study that this process alone may run."""

    study: optuna.Study
    config: StudyFile
    logs: Path

    def supervise(
        self,
        schedule: TrialSchedule,
        *,
        progress: ProgressDisplay,
        workers: Callable[[WorkerSettings, Path], Workers] | None = None,
        after_trial: Callable[[], None] = lambda: None,
    ) -> None:
        """Runs what is left of a schedule. See `Supervisor.run`.

        Args:
            schedule: Which trials.
            progress: Shows how they go.
            workers: Makes workers from what they are to load and where logs go; default: as the
                study says.
            after_trial: Called when a trial has been stored.
        """
        settings = self.config.worker_settings(self.logs, sources=self.study.user_attrs[SOURCES])
        here = functools.partial(make_workers, self.config)
        Supervisor(
            self.study,
            self.config,
            schedule,
            workers=(workers or here)(settings, self.logs),
            log_folder=self.logs,
            progress=progress,
            after_trial=after_trial,
        ).run()


@contextmanager
def open_to_run(
    config: StudyFile,
    storage: BulkStorage,
    *,
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
    name: str | None = None,
    schema: int = CURRENT,
) -> Iterator[OpenStudy]:
    """Opens a study, or makes it, and holds its lock.

    Args:
        config: What it is, settled for this machine.
        storage: Where it is stored.
        sampler: Proposes trials; default: none is asked to.
        pruner: May end trials early; default: nobody may.
        name: In storage; default: the study file's.
        schema: What a new study is begun under.

    Raises:
        StorageError: where another process runs it.
        StudyMismatchError: where it is stored with other settings.
    """
    name = name or config.study.name
    logs = log_folder(storage.url, name)
    with sole_writer(storage, name, logs=logs) as writer:
        sampler = sampler or optuna.samplers.RandomSampler()
        study = create_or_match_study(writer.storage, config, sampler, pruner=pruner, name=name, schema=schema)
        writer.claim(study)
        yield OpenStudy(study=study, config=config, logs=logs)
