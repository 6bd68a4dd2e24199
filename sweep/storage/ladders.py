"""The ladders of a stored study, made longer in place: trials keep their numbers, times and everything else.

Optuna refuses a parameter whose choices have changed, and stores a choice by its place among them. So the places of all
trials move, in one transaction with the study's settings and a note of what the ladders were.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweep.storage.attributes import CONFIG, EXTENSIONS
from sweep.storage.optuna_internals import study_id, tables
from sweep.study.file import StudyFile

if TYPE_CHECKING:
    import optuna
    from sqlalchemy import Engine

Ladders = Mapping[str, tuple[Any, ...]]
"""What is searched, by parameter, as `SearchSpace.ladders` has it."""
LADDERS = ("r", "alpha", "alpha_per_r", "learning_rate", "target_modules")
"""Keys of a study file's `[space]` that may gain rungs."""


def extensions(study: optuna.Study) -> list[dict[str, Any]]:
    """Each extension, in order.

    `ladders`: what they were before. `trials`: how many there were. `generation`: of the confirmation that counts from
    then on.
    """
    return list(study.user_attrs.get(EXTENSIONS, []))


def earlier_ladders(study: optuna.Study) -> list[Ladders]:
    """What the ladders were before each extension, in order."""
    return [{name: tuple(rungs) for name, rungs in made["ladders"].items()} for made in extensions(study)]


def longer(old: Ladders, new: Ladders) -> dict[str, tuple[Any, ...]]:
    """The rungs that each ladder gains, in order; ladders that gain none are left out.

    Raises:
        ValueError: where one is not what it was and more; it says which.
    """
    for name in sorted(old.keys() | new.keys()):
        missing = [rung for rung in old.get(name, ()) if rung not in new.get(name, ())]
        if missing or name not in old:
            raise ValueError(f"space.{name}: {json.dumps(old.get(name))} -> {json.dumps(new.get(name))}")
    gained = {name: tuple(rung for rung in rungs if rung not in old[name]) for name, rungs in new.items()}
    return {name: rungs for name, rungs in gained.items() if rungs}


def ladder_hint(study: optuna.Study, stored: StudyFile, config: StudyFile) -> str:
    """What whoever comes with other ladders may do; empty where there is nothing but to undo it."""
    old, new = stored.search_space().ladders, config.search_space().ladders
    if dict(new) in [dict(before) for before in earlier_ladders(study)]:
        gained = [f"{name} = {json.dumps(rungs)}" for name, rungs in old.items() if rungs != new[name]]
        return f"It was extended: put {' and '.join(gained)} into the file's [space]"
    try:
        gains = longer(old, new)
    except ValueError:
        return ""
    return "`sweep extend` makes ladders longer" if gains else ""


def lengthen(engine: Engine, study: optuna.Study, config: StudyFile, before: Ladders, *, generation: int) -> None:
    """Makes a study's ladders longer.

    Args:
        engine: Of its writer.
        study: Which.
        config: Its settings with the longer ladders.
        before: Its ladders so far.
        generation: Of the confirmation that counts from here on.
    """
    note = {
        "ladders": {name: list(rungs) for name, rungs in before.items()},
        "trials": len(study.get_trials(deepcopy=False)),
        "generation": generation,
    }
    attributes = {CONFIG: config.model_dump(mode="json"), EXTENSIONS: [*extensions(study), note]}
    after = config.search_space().ladders
    with engine.begin() as writing:
        for name in before:
            _move_places(writing, study_id(study), name, before[name], after[name])
        for key, value in attributes.items():
            _set_attribute(writing, study_id(study), key, value)


def _move_places(writing: Any, study: int, name: str, before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
    from optuna.distributions import CategoricalDistribution, distribution_to_json
    from sqlalchemy import bindparam, select

    models = tables()
    param, trial = models.TrialParamModel.__table__, models.TrialModel.__table__
    own = select(trial.c.trial_id).where(trial.c.study_id == study)
    found = writing.execute(
        select(param.c.param_id, param.c.param_value).where(param.c.param_name == name, param.c.trial_id.in_(own))
    ).all()
    text = distribution_to_json(CategoricalDistribution(after))
    moved = [{"own": number, "place": float(after.index(before[int(place)])), "text": text} for number, place in found]
    if moved:
        change: dict[str, Any] = {"param_value": bindparam("place"), "distribution_json": bindparam("text")}
        writing.execute(param.update().where(param.c.param_id == bindparam("own")).values(change), moved)


def _set_attribute(writing: Any, study: int, key: str, value: Any) -> None:
    table = tables().StudyUserAttributeModel.__table__
    own = (table.c.study_id == study) & (table.c.key == key)
    changed = writing.execute(table.update().where(own).values(value_json=json.dumps(value)))
    if changed.rowcount == 0:
        writing.execute(table.insert(), [{"study_id": study, "key": key, "value_json": json.dumps(value)}])
