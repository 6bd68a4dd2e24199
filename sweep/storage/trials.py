"""A stored study's trials, read in bulk.

Their intermediate values are left out. What a step measured is stored once more as a column of the trial's attribute
`curve`, so nothing is missed without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sweep.storage.attributes import REDONE
from sweep.storage.optuna_internals import relational_storage, study_id, tables

if TYPE_CHECKING:
    import optuna
    from sqlalchemy import Connection


def wanted_trials(study: optuna.Study, *, curves: bool = True) -> list[optuna.trial.FrozenTrial]:
    """The trials that count: all but those that still wait, and those that were lost and run again.

    Args:
        study: Whose.
        curves: Whether they have their learning curves, which take most of the time.
    """
    return wanted(read_trials(study, curves=curves))


def wanted(trials: Iterable[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
    """Those of a study's trials that count, as `wanted_trials` has them."""
    return [trial for trial in trials if trial.state.name != "WAITING" and REDONE not in trial.user_attrs]


def read_trials(
    study: optuna.Study, *, curves: bool = True, newest: int | None = None
) -> list[optuna.trial.FrozenTrial]:
    """All trials of a study in order, or the newest so many, without intermediate values. See `wanted_trials`."""
    from sqlalchemy import func, select

    from sweep.storage.bulk import BulkStorage, select_trials

    storage = relational_storage(study)
    if storage is None:
        return study.get_trials(deepcopy=False)[-newest if newest else None :]
    number, own = tables().TrialModel.number, tables().TrialModel.study_id == study_id(study)
    chosen = [number > select(func.max(number) - newest).where(own).scalar_subquery()] if newest else []

    def query(connection: Connection) -> list[optuna.trial.FrozenTrial]:
        return select_trials(connection, study_id(study), *chosen, curves=curves, steps=())

    if isinstance(storage, BulkStorage):
        return storage.read(query)
    with storage.engine.connect() as connection:
        return query(connection)
