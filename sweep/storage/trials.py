"""A stored study's trials, read in bulk.

Optuna 5.0 makes an object of every step's intermediate value, which takes seconds for a thousand trials. What a step
measured is stored once more as a column of the trial's attribute `curve`, so nothing is missed without them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sweep.storage.attributes import REDONE
from sweep.storage.optuna_internals import database_of, study_id, tables

if TYPE_CHECKING:
    import optuna
    from sqlalchemy import Row, Select


def wanted_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that count: all but those that still wait, and those that were lost and run again."""
    return [trial for trial in read_trials(study) if trial.state.name != "WAITING" and REDONE not in trial.user_attrs]


def read_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """All trials of a study in order, their intermediate values left out."""
    from optuna.trial import FrozenTrial
    from sqlalchemy import select

    database, models = database_of(study), tables()
    if database is None:
        return study.get_trials(deepcopy=False)
    trial, param, value = models.TrialModel, models.TrialParamModel, models.TrialValueModel
    own = select(trial.trial_id).where(trial.study_id == study_id(study)).scalar_subquery()

    def rows(*columns: Any) -> Select[Any]:
        table = columns[0].class_
        return select(*columns).where(table.trial_id.in_(own))

    with database.connect() as connection:
        columns = trial.trial_id, trial.number, trial.state, trial._datetime_start_utc, trial._datetime_complete_utc
        trials = connection.execute(rows(*columns).order_by(trial.number)).all()

        def attributes(table: Any) -> dict[int, dict[str, Any]]:
            found: dict[int, dict[str, Any]] = defaultdict(dict)
            for trial_id, key, text in connection.execute(rows(table.trial_id, table.key, table.value_json)):
                found[trial_id][key] = json.loads(text)
            return found

        params = _params(
            connection.execute(
                rows(param.trial_id, param.param_name, param.param_value, param.distribution_json).order_by(
                    param.param_id
                )
            )
        )
        values = {
            trial_id: value.stored_repr_to_value(number, kind)
            for trial_id, number, kind in connection.execute(rows(value.trial_id, value.value, value.value_type))
        }
        user, system = attributes(models.TrialUserAttributeModel), attributes(models.TrialSystemAttributeModel)
    return [
        FrozenTrial(
            number=number,
            state=state,
            value=values.get(trial_id),
            datetime_start=_local(start),
            datetime_complete=_local(complete),
            params={name: external for name, (external, _) in params[trial_id].items()},
            distributions={name: distribution for name, (_, distribution) in params[trial_id].items()},
            user_attrs=user[trial_id],
            system_attrs=system[trial_id],
            intermediate_values={},
            trial_id=trial_id,
        )
        for trial_id, number, state, start, complete in trials
    ]


def _params(rows: Iterable[Row[Any]]) -> dict[int, dict[str, tuple[Any, Any]]]:
    """Each trial's parameters: value and distribution by name."""
    from optuna.distributions import json_to_distribution

    distribution_of = cache(json_to_distribution)
    params: dict[int, dict[str, tuple[Any, Any]]] = defaultdict(dict)
    for trial_id, name, internal, text in rows:  # type: ignore[misc]
        distribution = distribution_of(text)
        params[trial_id][name] = distribution.to_external_repr(internal), distribution
    return params


def _local(stored: datetime | None) -> datetime | None:
    """Optuna stores times in UTC and shows them in local time."""
    return stored and stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
