"""What Optuna 5.0 keeps to itself and we need.

Nothing else reaches for a name of Optuna that starts with `_`, but two: `bulk` reads its tables, `patience` asks it
again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    import optuna


def storage_of(study: optuna.Study) -> optuna.storages.BaseStorage:
    """The storage that a study was loaded from."""
    return study._storage


def study_beside(study: optuna.Study, name: str) -> optuna.Study | None:
    """Another study of the same storage; None where it has none of that name."""
    import optuna

    try:
        return optuna.load_study(study_name=name, storage=storage_of(study))
    except KeyError:
        return None


def study_id(study: optuna.Study) -> int:
    """A study's number in its storage, by which optuna-dashboard's pages and artifacts know it."""
    return study._study_id


def trial_id(trial: optuna.Trial | optuna.trial.FrozenTrial) -> int:
    """A trial's number in its storage, which is not its number in its study."""
    return trial._trial_id


def tables() -> ModuleType:
    """The tables of Optuna's relational storage, as SQLAlchemy models."""
    from optuna.storages._rdb import models

    return models


def relational_storage(study: optuna.Study) -> optuna.storages.RDBStorage | None:
    """The database that a study lies in, behind Optuna's cache; None where its storage is not relational."""
    from optuna.storages import RDBStorage

    storage = storage_of(study)
    backend = getattr(storage, "_backend", storage)
    return backend if isinstance(backend, RDBStorage) else None


def set_attribute(study: optuna.Study, trial: optuna.trial.FrozenTrial, key: str, value: Any) -> None:
    """Sets an attribute of a trial that is still running, and that this process has not asked for itself."""
    storage_of(study).set_trial_user_attr(trial_id(trial), key, value)


def end_unasked(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
    """Ends a trial as failed if it still waits in the queue; whether it did. `Study.tell` takes running ones alone."""
    from datetime import UTC, datetime

    from optuna.trial import TrialState
    from sqlalchemy import update

    storage = relational_storage(study)
    if storage is None:
        storage_of(study).set_trial_state_values(trial_id(trial), state=TrialState.FAIL)
        return True
    # In one statement: whoever runs the study may ask for it at this very moment.
    model = tables().TrialModel
    waits = update(model).where(model.trial_id == trial_id(trial), model.state == TrialState.WAITING)
    # Optuna stores times in UTC, without a word of it.
    ended = waits.values(state=TrialState.FAIL, _datetime_complete_utc=datetime.now(UTC).replace(tzinfo=None))
    with storage.engine.begin() as connection:
        return connection.execute(ended).rowcount == 1
