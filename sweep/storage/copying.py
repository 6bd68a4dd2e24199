"""Studies copied from one storage into another, row by row: what is stored arrives byte for byte.

Only the numbers by which databases tell rows apart change. All of it is one transaction: a copy that is cut leaves
nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sweep.errors import StorageError
from sweep.storage.address import first_line, hide_password
from sweep.storage.optuna_internals import tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from sweep.storage.bulk import BulkStorage

TRIALS_AT_ONCE = 200
ARTIFACTS = "dashboard:artifacts:"
"""How attributes of a study begin by which optuna-dashboard lists a trial's files."""


def copy_studies(
    source: BulkStorage,
    target: BulkStorage,
    names: Sequence[str],
    *,
    copied: Callable[[int], None] = lambda trials: None,
) -> None:
    """Copies studies, or none of them.

    Args:
        source: Has them.
        target: Is to have them.
        names: Which.
        copied: Is told how many more trials have been copied.

    Raises:
        StorageError: where the target has one of them already, or a storage fails.
    """
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError

    try:
        with source.engine.connect() as reading, target.engine.begin() as writing:
            for name in names:
                _copy_study(reading, writing, name, copied)
    except IntegrityError as error:
        raise StorageError(f"{hide_password(target.url)} has one of {', '.join(names)} already") from error
    except SQLAlchemyError as error:
        raise StorageError(f"nothing was copied: {first_line(error, target.url)}") from error


def count_trials(storage: BulkStorage, study: str) -> int:
    """How many trials a study has, in whatever state."""
    from sqlalchemy import func, select

    models = tables()
    counted = select(func.count(models.TrialModel.trial_id)).join(models.StudyModel)
    return int(storage.read(lambda db: db.execute(counted.where(models.StudyModel.study_name == study)).scalar_one()))


def _copy_study(reading: Connection, writing: Connection, name: str, copied: Callable[[int], None]) -> None:
    from sqlalchemy import select

    models = tables()
    study, trial = models.StudyModel.__table__, models.TrialModel.__table__
    old = reading.execute(select(study.c.study_id).where(study.c.study_name == name)).scalar_one()
    [new] = writing.execute(study.insert().returning(study.c.study_id), [{"study_name": name}]).scalars()
    for model in (models.StudyDirectionModel, models.StudyUserAttributeModel, models.StudySystemAttributeModel):
        _write(writing, model, ({**row, "study_id": new} for row in _rows(reading, model, "study_id", [old])))
    ids = reading.execute(select(trial.c.trial_id).where(trial.c.study_id == old).order_by(trial.c.trial_id))
    left = list(ids.scalars())
    while left:
        some, left = left[:TRIALS_AT_ONCE], left[TRIALS_AT_ONCE:]
        rows = reading.execute(select(trial).where(trial.c.trial_id.in_(some)).order_by(trial.c.trial_id)).mappings()
        trials = [{key: row[key] for key in row if key != "trial_id"} | {"study_id": new} for row in rows]
        # Unsorted, a database may give the new numbers back in any order.
        made = trial.insert().returning(trial.c.trial_id, sort_by_parameter_order=True)
        new_id = dict(zip(some, writing.execute(made, trials).scalars(), strict=True))
        for model in (
            models.TrialParamModel,
            models.TrialValueModel,
            models.TrialIntermediateValueModel,
            models.TrialUserAttributeModel,
            models.TrialSystemAttributeModel,
        ):
            of_trials = _rows(reading, model, "trial_id", some)
            _write(writing, model, ({**row, "trial_id": new_id[row["trial_id"]]} for row in of_trials))
        copied(len(some))


def _rows(reading: Connection, model: Any, owner: str, ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of a table that belong to a study or to trials, in order, without their own numbers."""
    from sqlalchemy import select

    table = model.__table__
    [own] = table.primary_key.columns
    for row in reading.execute(select(table).where(table.c[owner].in_(ids)).order_by(own)).mappings():
        # They name trials by numbers of the old storage. `sweep dashboard` makes them again.
        if not (owner == "study_id" and str(row.get("key", "")).startswith(ARTIFACTS)):
            yield {key: value for key, value in row.items() if key != own.key}


def _write(writing: Connection, model: Any, rows: Iterator[dict[str, Any]]) -> None:
    if found := list(rows):
        writing.execute(model.__table__.insert(), found)
