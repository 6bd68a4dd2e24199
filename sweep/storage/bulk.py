"""Optuna's relational storage, with its trials read in bulk.

Optuna 5.0 reads trials as objects of its tables, one for every attribute and every step's intermediate value: half a
minute for ten thousand trials. Read as rows, the same trials take a second or two.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.storages import RDBStorage

from sweep.storage.attributes import CURVE
from sweep.storage.optuna_internals import relational_storage, tables
from sweep.storage.steps import reported_steps

if TYPE_CHECKING:
    import optuna
    from sqlalchemy import ColumnElement, Connection, Row, Select

Read = TypeVar("Read")

FEW = 100
"""Up to so many trials are named one by one: databases limit how many names a query may hold."""


class BulkStorage(RDBStorage):
    """What `open_storage` opens."""

    curves = True
    """Whether trials that are read have their learning curves, by far the largest of what is stored of them."""
    every_step = True
    """Whether they have the intermediate value of every step, or of those that are reported today alone."""
    patience_s = 0.0
    """How long a server that does not answer is asked again, by whoever writes."""

    def read(self, query: Callable[[Connection], Read]) -> Read:
        """What a query of the tables comes to."""
        with self.engine.connect() as connection:
            return query(connection)

    def _get_trials(
        self,
        study_id: int,
        states: Container[optuna.trial.TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[optuna.trial.FrozenTrial]:
        """See `RDBStorage`, whose cache asks for trials that are new, or that had not ended when it last asked."""
        from sqlalchemy import or_, select

        models = tables()
        study, trial_id = models.StudyModel, models.TrialModel.trial_id
        chosen: ColumnElement[bool] = trial_id > trial_id_greater_than
        included = [number for number in included_trial_ids if number <= trial_id_greater_than]
        if included:
            chosen = or_(chosen, trial_id.in_(included))

        def query(connection: Connection) -> list[optuna.trial.FrozenTrial]:
            if connection.execute(select(study.study_id).where(study.study_id == study_id)).first() is None:
                # What Optuna's own method raises for a study that is gone.
                raise KeyError(models.NOT_FOUND_MSG)
            steps = None if self.every_step else reported_steps()
            return select_trials(connection, study_id, chosen, curves=self.curves, steps=steps)

        trials = self.read(query)
        return trials if states is None else [trial for trial in trials if trial.state in states]


def read_for_pages(study: optuna.Study) -> None:
    """Has a study's storage leave out what a page of all its trials would be slow with and has no use for."""
    storage = relational_storage(study)
    if isinstance(storage, BulkStorage):
        storage.curves = storage.every_step = False


def select_trials(
    connection: Connection,
    study_id: int,
    *chosen: ColumnElement[bool],
    curves: bool = True,
    steps: Sequence[int] | None = None,
) -> list[optuna.trial.FrozenTrial]:
    """Trials of a study, in the order in which they were made.

    Args:
        connection: To a relational storage.
        study_id: The study's number there.
        chosen: Which; default: all.
        curves: Whether they have their attribute `curve`.
        steps: Those whose intermediate values they have; default: all.
    """
    from optuna.trial import FrozenTrial
    from sqlalchemy import select

    models = tables()
    trial = models.TrialModel
    where = (trial.study_id == study_id, *chosen)
    columns = trial.trial_id, trial.number, trial.state, trial._datetime_start_utc, trial._datetime_complete_utc
    found = connection.execute(select(*columns).where(*where).order_by(trial.trial_id)).all()
    if not found:
        return []
    own: Any = select(trial.trial_id).where(*where).scalar_subquery()
    if len(found) <= FEW:
        own = [row[0] for row in found]

    def rows(*columns: Any) -> Select[Any]:
        return select(*columns).where(columns[0].class_.trial_id.in_(own))

    def attributes(table: Any) -> dict[int, dict[str, Any]]:
        wanted = rows(table.trial_id, table.key, table.value_json)
        if not curves:
            wanted = wanted.where(table.key != CURVE)
        by_trial: dict[int, dict[str, Any]] = defaultdict(dict)
        for trial_id, key, text in connection.execute(wanted):
            by_trial[trial_id][key] = json.loads(text)
        return by_trial

    param, value = models.TrialParamModel, models.TrialValueModel
    params = _params(
        connection.execute(
            rows(param.trial_id, param.param_name, param.param_value, param.distribution_json).order_by(param.param_id)
        )
    )
    values: dict[int, list[float]] = defaultdict(list)
    for trial_id, number, kind in connection.execute(
        rows(value.trial_id, value.value, value.value_type).order_by(value.objective)
    ):
        values[trial_id].append(value.stored_repr_to_value(number, kind))
    user, system = attributes(models.TrialUserAttributeModel), attributes(models.TrialSystemAttributeModel)
    at, reported = models.TrialIntermediateValueModel, defaultdict[int, dict[int, float]](dict)
    wanted = rows(at.trial_id, at.step, at.intermediate_value, at.intermediate_value_type)
    if steps is not None:
        wanted = wanted.where(at.step.in_(steps))
    if steps is None or steps:
        for trial_id, step, number, kind in connection.execute(wanted):
            reported[trial_id][step] = at.stored_repr_to_intermediate_value(number, kind)
    return [
        FrozenTrial(
            number=number,
            state=state,
            value=None,
            values=values.get(trial_id),
            datetime_start=_local(start),
            datetime_complete=_local(complete),
            params={name: external for name, (external, _) in params[trial_id].items()},
            distributions={name: distribution for name, (_, distribution) in params[trial_id].items()},
            user_attrs=user[trial_id],
            system_attrs=system[trial_id],
            intermediate_values=reported[trial_id],
            trial_id=trial_id,
        )
        for trial_id, number, state, start, complete in found
    ]


def _params(rows: Iterable[Row[Any]]) -> dict[int, dict[str, tuple[Any, Any]]]:
    """Each trial's parameters: value and distribution by name."""
    from optuna.distributions import json_to_distribution

    # Thousands of rows name a handful of distributions.
    distribution_of = cache(json_to_distribution)
    params: dict[int, dict[str, tuple[Any, Any]]] = defaultdict(dict)
    for trial_id, name, internal, text in rows:  # type: ignore[misc]
        distribution = distribution_of(text)
        params[trial_id][name] = distribution.to_external_repr(internal), distribution
    return params


def _local(stored: datetime | None) -> datetime | None:
    """Optuna stores times in UTC and shows them in local time."""
    return stored and stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
