"""What other processes ask of a study while it runs: one more point, or the end of a trial. Asked for by storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweep.errors import UsageError
from sweep.storage.attributes import ADDED, DROPPED, REASON, REDONE
from sweep.storage.optuna_internals import database_of, end_unasked, set_attribute, study_id, tables
from sweep.study.space import Point

if TYPE_CHECKING:
    import optuna

ON_REQUEST = "dropped on request"
"""Why such a trial has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What has been asked for so far."""

    added: int
    """Trials besides those that the study declares."""
    dropped: frozenset[int]
    """Running trials that are to end."""


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
    set_attribute(study, trial, DROPPED, True)
    if trial.state.name == "RUNNING":
        return f"trial {number} ends at its next step"
    set_attribute(study, trial, REASON, ON_REQUEST)
    end_unasked(study, trial)
    return f"trial {number} will not be run"


def read_requests(study: optuna.Study) -> Requests:
    """Reads what has been asked for, without reading whole trials: it is looked at every few seconds."""
    from optuna.trial import TrialState
    from sqlalchemy import func, select

    database, models = database_of(study), tables()
    if database is None:
        trials = study.get_trials(deepcopy=False)
        return Requests(
            added=sum(ADDED in trial.user_attrs and REDONE not in trial.user_attrs for trial in trials),
            dropped=frozenset(t.number for t in trials if t.state == TrialState.RUNNING and DROPPED in t.user_attrs),
        )
    trial, attribute = models.TrialModel, models.TrialUserAttributeModel
    own = trial.study_id == study_id(study)
    again = select(attribute.trial_id).where(attribute.key == REDONE).scalar_subquery()
    added = (
        select(func.count())
        .select_from(trial)
        .join(attribute, attribute.trial_id == trial.trial_id)
        .where(own, attribute.key == ADDED, trial.trial_id.not_in(again))
    )
    dropped = (
        select(trial.number)
        .join(attribute, attribute.trial_id == trial.trial_id)
        .where(own, attribute.key == DROPPED, trial.state == TrialState.RUNNING)
    )
    with database.connect() as connection:
        return Requests(
            added=connection.execute(added).scalar_one(),
            dropped=frozenset(number for (number,) in connection.execute(dropped)),
        )
