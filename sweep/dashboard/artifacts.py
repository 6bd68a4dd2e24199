"""Each ended trial's log, learning curve and adapter, as artifacts that the dashboard shows with the trial."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives.engines.adapter_files import ADAPTER_FILES
from objectives.trial.messages import trial_name
from sweep.errors import StorageError
from sweep.storage import attributes
from sweep.storage.copying import ARTIFACTS
from sweep.storage.database import log_folder
from sweep.storage.optuna_internals import storage_of, study_id, trial_id
from sweep.storage.trials import read_trials

if TYPE_CHECKING:
    import optuna

KEY = ARTIFACTS + "{trial}:{id}"
"""Study attribute under which optuna-dashboard 0.21 looks for a trial's artifact.

Optuna's own `upload_artifact` writes it to the trial, and Optuna 5.0 refuses that for a trial that has ended.
"""
NEWEST = 200
"""Trials whose files are published: optuna-dashboard 0.21 looks through the whole list once for every trial."""
MIMETYPES = {".json": "application/json", ".safetensors": "application/octet-stream"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialArtifact:
    """A file of a trial: one that exists, or the trial's learning curve, which is written when it is published."""

    trial: int
    """Its id in storage, not its number in the study."""
    name: str
    mimetype: str
    source: Path | dict[str, list[Any]]

    @property
    def id(self) -> str:
        """The same whenever it is published."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.trial}/{self.name}"))

    @property
    def key(self) -> str:
        """The study attribute that says that it has been published."""
        return KEY.format(trial=self.trial, id=self.id)


def artifact_folder(url: str) -> Path:
    """Where a storage's artifacts are, for all its studies: a dashboard has one folder."""
    return log_folder(url, "any").parent.with_suffix(".artifacts")


def unpublished_artifacts(study: optuna.Study, *, logs: Path, folder: Path) -> list[TrialArtifact]:
    """Artifacts of the newest trials, as far as they have ended, that are not listed yet or whose file is gone.

    Args:
        study: Search or confirmation.
        logs: The study's log folder.
        folder: Where artifacts are.
    """
    listed = storage_of(study).get_study_system_attrs(study_id(study)).keys()
    present = {path.name for path in folder.glob("*")}
    return [
        artifact
        for trial in read_trials(study, newest=NEWEST)
        if trial.state.is_finished()
        for artifact in _artifacts(trial, logs)
        if artifact.key not in listed or artifact.id not in present
    ]


def publish_artifact(study: optuna.Study, artifact: TrialArtifact, folder: Path) -> None:
    """Puts an artifact into the folder, then into the storage's list.

    Raises:
        StorageError: where the folder cannot be written.
    """
    path = folder / artifact.id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # What is there may be a link to a trial's own file, which must not be written to.
        path.unlink(missing_ok=True)
        if isinstance(artifact.source, Path):
            _link_or_copy(artifact.source, path)
        else:
            path.write_text(_as_csv(artifact.source), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write artifacts to {folder}: {error.strerror}") from error
    listing = {"artifact_id": artifact.id, "filename": artifact.name, "mimetype": artifact.mimetype, "encoding": None}
    storage_of(study).set_study_system_attr(study_id(study), artifact.key, json.dumps(listing))


def _artifacts(trial: optuna.trial.FrozenTrial, logs: Path) -> Iterator[TrialArtifact]:
    """What a trial has to show; a file that is not there is left out."""
    attrs, name = trial.user_attrs, trial_name(trial.number)
    found: list[tuple[str, str, Path | dict[str, list[Any]]]] = []
    if log := attrs.get(attributes.LOG):
        found.append((f"{name}.log", "text/plain; charset=utf-8", attributes.in_log_folder(log, logs)))
    if curve := attrs.get(attributes.CURVE):
        found.append((f"{name}.csv", "text/csv; charset=utf-8", curve))
    if adapter := attrs.get(attributes.ADAPTER):
        folder = attributes.in_log_folder(adapter, logs)
        found += [(file, MIMETYPES[Path(file).suffix], folder / file) for file in ADAPTER_FILES]
    for file, mimetype, source in found:
        # A link could lead out of the folder.
        if not isinstance(source, Path) or (source.is_file() and source.resolve().is_relative_to(logs.resolve())):
            yield TrialArtifact(trial=trial_id(trial), name=file, mimetype=mimetype, source=source)


def _link_or_copy(source: Path, target: Path) -> None:
    # Adapters are large and do not change: a second name costs nothing.
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _as_csv(columns: dict[str, list[Any]]) -> str:
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return lines.getvalue()
