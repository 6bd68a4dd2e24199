"""Where a study's workers run, and on what: this machine, or a Ray cluster's."""

from __future__ import annotations

from pathlib import Path

from objectives.settings.sections import WorkerSettings
from sweep.preflight.checks import check_device, check_placed
from sweep.preflight.devices import Device
from sweep.preflight.placement import device_here, place
from sweep.preflight.worker_places import worker_places
from sweep.running.workers import LocalWorkers, Workers
from sweep.study.file import StudyFile


def worker_device(config: StudyFile) -> Device | None:
    """The GPU that each worker computes on; None for a processor.

    Raises:
        ClusterError: where the study runs on a Ray cluster that cannot be reached.
    """
    if config.run.ray is None:
        return device_here()
    from sweep.running.ray_cluster import device_there, join, shares

    join(config)
    return device_there(shares(on_gpu=config.model.device == "gpu"))


def check_workers(config: StudyFile) -> None:
    """Checks that workers can run: the GPU that a study needs is there, and packs can be trained on it.

    Raises:
        StudyFileError: naming what is wrong.
        ClusterError: where the study runs on a Ray cluster that cannot be used.
    """
    if config.run.ray is None:
        check_device(config)
        worker_places(config)
    else:
        check_placed(config, place(config, worker_device(config)))


def make_workers(config: StudyFile, settings: WorkerSettings, log_folder: Path) -> Workers:
    """The workers of a study, none of them started."""
    if config.run.ray is None:
        return LocalWorkers(settings, log_folder, environments=worker_places(config))
    from sweep.running.ray_cluster import join, travelling_folder
    from sweep.running.ray_workers import RayWorkers

    join(config)
    return RayWorkers(
        settings,
        most=None if config.run.workers == "auto" else config.run.workers,
        study_travels=travelling_folder(config) is not None,
        on_gpu=config.model.device == "gpu",
    )
