"""What other processes ask of a study while it runs: one more point, or the end of a trial. Asked for by storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweep.errors import UsageError
from sweep.storage.attributes import ADDED, DROPPED, REASON, REDONE
from sweep.storage.bulk import BulkStorage
from sweep.storage.optuna_internals import end_unasked, relational_storage, set_attribute, study_id, tables
from sweep.study.space import Point

if TYPE_CHECKING:
    import optuna
    from sqlalchemy import Connection

ON_REQUEST = "dropped on request"
"""Why such a trial has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What has been asked for so far."""

    added: int
    """Trials besides those that the study declares."""
    dropped: frozenset[int]
    """Running trials that are to end."""
    ended: int
    """Trials that count as ended, those among them that were dropped before they ran."""


def add_point(study: optuna.Study, point: Point) -> int:
    """Queues a point before all that is still to come; the number of its trial."""
    study.enqueue_trial(point, user_attrs={ADDED: True})
    return study.get_trials(deepcopy=False)[-1].number


def drop_trial(study: optuna.Study, number: int) -> str:
    """Has a trial end: at its next step where it runs, at once where it waits. What comes of it, in words.

    Raises:
        UsageError: where there is no such trial, or it has ended.
    """
    trials = study.get_trials(deepcopy=False)
    if number >= len(trials):
        raise UsageError(f"trial {number}; study {study.study_name!r} has trials 0 to {len(trials) - 1}")
    trial = trials[number]
    if trial.state.is_finished():
        raise UsageError(f"trial {number} has ended ({trial.state.name.lower()}); allowed: one that runs or waits")
    # Before anything else: should the trial be asked for at this moment, whoever runs it will see that it is to end.
    set_attribute(study, trial, DROPPED, True)
    if trial.state.name == "WAITING":
        set_attribute(study, trial, REASON, ON_REQUEST)
        if end_unasked(study, trial):
            return f"trial {number} will not be run"
    return f"trial {number} ends at its next step"


def read_requests(study: optuna.Study) -> Requests:
    """Reads what has been asked for, without reading whole trials: it is looked at every few seconds."""
    storage = relational_storage(study)
    if isinstance(storage, BulkStorage):
        number = study_id(study)
        return storage.read(lambda connection: _select_requests(connection, number))
    trials = study.get_trials(deepcopy=False)
    return Requests(
        added=sum(ADDED in trial.user_attrs and REDONE not in trial.user_attrs for trial in trials),
        dropped=frozenset(t.number for t in trials if t.state.name == "RUNNING" and DROPPED in t.user_attrs),
        ended=sum(trial.state.is_finished() and REDONE not in trial.user_attrs for trial in trials),
    )


def _select_requests(connection: Connection, of_study: int) -> Requests:
    from optuna.trial import TrialState
    from sqlalchemy import func, select

    models = tables()
    trial, attribute = models.TrialModel, models.TrialUserAttributeModel
    again = select(attribute.trial_id).where(attribute.key == REDONE).scalar_subquery()
    with_key = select(func.count()).select_from(trial).join(attribute, attribute.trial_id == trial.trial_id)
    added = with_key.where(trial.study_id == of_study, attribute.key == ADDED, trial.trial_id.not_in(again))
    dropped = (
        select(trial.number)
        .join(attribute, attribute.trial_id == trial.trial_id)
        .where(trial.study_id == of_study, attribute.key == DROPPED, trial.state == TrialState.RUNNING)
    )
    ended = (
        select(func.count())
        .select_from(trial)
        .where(
            trial.study_id == of_study,
            trial.state.in_([state for state in TrialState if state.is_finished()]),
            trial.trial_id.not_in(again),
        )
    )
    return Requests(
        added=connection.execute(added).scalar_one(),
        dropped=frozenset(number for (number,) in connection.execute(dropped)),
        ended=connection.execute(ended).scalar_one(),
    )
