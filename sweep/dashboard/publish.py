"""Puts what we know of a study where the dashboard looks for it: into the storage, and files beside it."""

from __future__ import annotations

import optuna
from optuna_dashboard import get_note, save_note, save_plotly_graph_object
from rich.console import Console
from rich.progress import track

from sweep.confirmation.naming import confirmation_study
from sweep.confirmation.outcome import read_confirmation
from sweep.dashboard.artifacts import artifact_folder, publish_artifact, unpublished_artifacts
from sweep.dashboard.figures import Figures, confirmation_figures, search_figures
from sweep.dashboard.note import study_note
from sweep.errors import StorageError
from sweep.storage.attributes import FROZEN
from sweep.storage.database import log_folder
from sweep.storage.summary import stored_config, summarize

END_OF_NOTE = "*`sweep dashboard` writes what is above this line, and keeps what is below it.*"


def publish_study(search: optuna.Study, *, url: str, confirm_with: str | None) -> None:
    """Stores a search's note, figures and artifacts, and its confirmation's. What was stored before is replaced.

    Args:
        search: Not its confirmation, which is found by its name.
        url: The storage's: artifacts go beside it.
        confirm_with: The command that confirms it; None where that is not known.

    Raises:
        StorageError: where it is no search that `sweep run` made, or where artifacts cannot be written.
    """
    if FROZEN in search.user_attrs:
        raise StorageError(f"study {search.study_name!r} in storage is a confirmation: name the study that it confirms")
    summary = summarize(search)
    confirmation = confirmation_study(search)
    confirmed = None if confirmation is None else read_confirmation(confirmation, stored_config(search))
    note = study_note(summary, confirmed, confirm_with=confirm_with)
    figures: Figures = {}
    if confirmation is not None:
        if confirmed is not None:
            figures = confirmation_figures(confirmation, confirmed)
        _publish(confirmation, note, figures, url)
    _publish(search, note, search_figures(search, summary) | figures, url)


def _publish(study: optuna.Study, note: str, figures: Figures, url: str) -> None:
    written = get_note(study)
    before, end, after = written.partition(END_OF_NOTE)
    # A note without our line is all somebody's own.
    own = (after if end else before).strip()
    note = f"{note}\n\n---\n\n{END_OF_NOTE}\n\n{own}".strip()
    if note != written:
        save_note(study, note)
    for name, figure in figures.items():
        save_plotly_graph_object(study, figure, graph_object_id=name)
    folder = artifact_folder(url)
    found = unpublished_artifacts(study, logs=log_folder(url, study.study_name), folder=folder)
    console = Console(stderr=True)
    hidden = not (found and console.is_terminal)
    for artifact in track(found, f"files of {study.study_name}", console=console, transient=True, disable=hidden):
        publish_artifact(study, artifact, folder)
