"""Under which rules a stored study was begun, and goes on: a number stored with it.

Studies of the first version have none. Theirs is a tolerance, half the base policy's reward as the floor of a collapse,
and a base policy that was scored once: too little to say what was gained. A study never changes its rules on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from objectives.trial.messages import HeldOutScore
from sweep.errors import StorageError
from sweep.storage.attributes import CONFIG, SCHEMA
from sweep.study.file import StudyFile

if TYPE_CHECKING:
    import optuna

    from sweep.statistics.rule import Rule

LEVELS, GAINS = 1, 2
"""Judged by rewards as they stand; judged by what they are above the base policy's."""
CURRENT = GAINS


def schema_of(study: optuna.Study) -> int:
    """The number that a study was stored with.

    Raises:
        StorageError: where a later version stored it.
    """
    schema = study.user_attrs.get(SCHEMA, LEVELS)
    if schema not in (LEVELS, GAINS):
        raise StorageError(
            f"study {study.study_name!r} in storage was made by a later version of rank-sweep (schema {schema}; "
            f"this one knows {LEVELS} and {GAINS})"
        )
    return int(schema)


def rule_of(config: StudyFile, schema: int, *, critical: Sequence[float | None] = ()) -> Rule:
    """The rule that a study declares.

    Args:
        config: The study.
        schema: As it was stored with.
        critical: What its confirmation has stored of `stored_critical`; drawn where there is none yet.
    """
    from sweep.statistics.guards import Guard
    from sweep.statistics.rule import Rule  # it loads scipy, which only a verdict needs
    from sweep.statistics.spending import critical_values

    verdict = config.verdict
    if verdict.design == "sequential" and not critical:
        critical = critical_values(verdict.seeds, verdict.confidence)
    return Rule(
        critical=tuple(map(_number, critical)) if verdict.design == "sequential" else (),
        keep=verdict.keep,
        tolerance=verdict.tolerance,
        confidence=verdict.confidence,
        collapse_limit=verdict.collapse_limit,
        looks=verdict.looks,
        gains=schema >= GAINS,
        guards=tuple(Guard(measure=guard.measure, worse_by=guard.worse_by) for guard in verdict.guards),
    )


def _number(critical: float | None) -> float:
    return float("inf") if critical is None else critical


def stored_critical(rule: Rule) -> list[float | None]:
    """A rule's critical values as JSON has them: null where there is no look."""
    return [value if value < float("inf") else None for value in rule.critical]


def base_of(study: optuna.Study, base: HeldOutScore) -> HeldOutScore:
    """The base policy's score as the study's collapse rule knows it."""
    return base if schema_of(study) >= GAINS else replace(base, spread=None)


def as_declared(study: optuna.Study, config: StudyFile) -> StudyFile:
    """A study file under the rule that the study declared, where the file leaves to defaults what had others then.

    A study without a number had no `verdict.keep`; one from before seeds were added one by one runs them all.
    """
    try:
        stored = StudyFile.model_validate(study.user_attrs[CONFIG]).verdict
    except (KeyError, ValidationError):
        return config
    given, update = config.verdict, dict[str, Any]()
    if schema_of(study) < GAINS and given.tolerance is None:
        update |= {"keep": None, "tolerance": stored.tolerance}
    if stored.design == "fixed" and "design" not in given.model_fields_set:
        seeds = given.seeds if "seeds" in given.model_fields_set else stored.seeds
        update |= {"design": "fixed", "looks": stored.looks, "seeds": seeds}
    return config.model_copy(update={"verdict": given.model_copy(update=update)}) if update else config


def declared_note(study: optuna.Study) -> str:
    """What whoever goes on with a study should know of its rules; empty for one under today's."""
    if schema_of(study) == CURRENT:
        return ""
    return (
        f"study {study.study_name} was begun by an earlier version: it goes on under the rules that it declared, with "
        "verdict.tolerance, and is not asked to beat the base policy"
    )
