"""Under which rules a stored study was begun, and goes on: a number stored with it.

Studies of the first version have none. Theirs is a tolerance, half the base policy's reward as the floor of a collapse,
and a base policy that was scored once: too little to say what was gained. A study never changes its rules on the way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from objectives.trial.messages import HeldOutScore
from sweep.errors import StorageError
from sweep.storage.attributes import CONFIG, SCHEMA
from sweep.study.file import StudyFile

if TYPE_CHECKING:
    import optuna

    from sweep.statistics.decision import Rule

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


def rule_of(config: StudyFile, schema: int) -> Rule:
    """The rule that a study declares."""
    from sweep.statistics.decision import Rule  # it loads scipy, which only a verdict needs

    verdict = config.verdict
    return Rule(
        keep=verdict.keep,
        tolerance=verdict.tolerance,
        confidence=verdict.confidence,
        collapse_limit=verdict.collapse_limit,
        looks=verdict.looks,
        gains=schema >= GAINS,
    )


def base_of(study: optuna.Study, base: HeldOutScore) -> HeldOutScore:
    """The base policy's score as the study's collapse rule knows it."""
    return base if schema_of(study) >= GAINS else replace(base, spread=None)


def as_declared(study: optuna.Study, config: StudyFile) -> StudyFile:
    """A study file under the rule that the study declared before `verdict.keep` was a way to say it."""
    stored = study.user_attrs.get(CONFIG)
    if stored is None or schema_of(study) >= GAINS or config.verdict.tolerance is not None:
        return config
    try:
        tolerance = StudyFile.model_validate(stored).verdict.tolerance
    except ValidationError:
        return config
    verdict = config.verdict.model_copy(update={"keep": None, "tolerance": tolerance})
    return config.model_copy(update={"verdict": verdict})


def declared_note(study: optuna.Study) -> str:
    """What whoever goes on with a study should know of its rules; empty for one under today's."""
    if schema_of(study) == CURRENT:
        return ""
    return (
        f"study {study.study_name} was begun by an earlier version: it goes on under the rules that it declared, with "
        "verdict.tolerance, and is not asked to beat the base policy"
    )
