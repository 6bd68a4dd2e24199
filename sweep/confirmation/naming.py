"""Which stored studies are a search's confirmations: one, and another for each time it was extended after a look."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sweep.storage.attributes import EXTENSIONS
from sweep.storage.optuna_internals import storage_of, study_beside
from sweep.storage.reference import reference_name, reference_study

if TYPE_CHECKING:
    import optuna

FIRST_SEED = 1_000_000
"""Confirmation seeds begin so far above the search's that they never meet; a second confirmation's as far above."""


def confirmation_name(study: str, generation: int = 0) -> str:
    """The name of a study's confirmation in storage."""
    return f"{study}.confirm" if generation == 0 else f"{study}.confirm.{generation + 1}"


def horizon_name(confirmation: str, steps: int) -> str:
    """The name of a confirmation that goes on to more steps than its study declares."""
    return f"{confirmation}.{steps}-steps"


def is_confirmation(name: str, names: Iterable[str]) -> bool:
    """Whether a stored study is the confirmation of another one of these."""
    search = re.fullmatch(r"(.+)\.confirm(\.\d+)?(\.\d+-steps)?", name)
    return search is not None and search[1] in names


def generation_named(confirmation: str) -> int:
    """How many confirmations came before one, by its name."""
    found = re.fullmatch(r".+\.confirm\.(\d+)(\.\d+-steps)?", confirmation)
    return int(found[1]) - 1 if found else 0


def generation_of(search: optuna.Study) -> int:
    """How many confirmations came before the one that counts."""
    extensions = search.user_attrs.get(EXTENSIONS, [])
    return extensions[-1]["generation"] if extensions else 0


def first_seed(search: optuna.Study) -> int:
    """The first seed of the confirmation that counts, above the study's own."""
    return first_seed_of(generation_of(search))


def first_seed_of(generation: int) -> int:
    """The first seed of a confirmation that so many came before, above the study's own."""
    return FIRST_SEED * (generation + 1)


def confirmation_study(search: optuna.Study) -> optuna.Study | None:
    """The study that holds a search's confirmation trials; None where it has none."""
    return _stored(search, generation_of(search))


def earlier_confirmations(search: optuna.Study) -> list[optuna.Study]:
    """Those that were made before the search was extended, the oldest first."""
    found = [_stored(search, generation) for generation in range(generation_of(search))]
    return [study for study in found if study is not None]


def family(search: optuna.Study) -> list[str]:
    """The names of a search, of all its confirmations and of its reference, where they are stored."""
    newest = confirmation_study(search)
    confirmations = [*earlier_confirmations(search), *([] if newest is None else [newest])]
    names = [study.study_name for study in confirmations]
    longer = [name for confirmation in names for name in _horizons(search, confirmation).values()]
    reference = [] if reference_study(search) is None else [reference_name(search.study_name)]
    return [search.study_name, *names, *longer, *reference]


def longer_confirmations(search: optuna.Study) -> dict[int, optuna.Study]:
    """What a search's newest confirmation was taken on to, by steps."""
    names = _horizons(search, confirmation_name(search.study_name, generation_of(search)))
    found = {steps: study_beside(search, name) for steps, name in names.items()}
    return {steps: study for steps, study in found.items() if study is not None}


def _horizons(search: optuna.Study, confirmation: str) -> dict[int, str]:
    """The names of a confirmation's longer horizons that are stored, by steps, fewest first."""
    pattern = re.compile(rf"{re.escape(confirmation)}\.(\d+)-steps")
    names = [study.study_name for study in storage_of(search).get_all_studies()]
    return dict(sorted((int(found[1]), name) for name in names if (found := pattern.fullmatch(name))))


def _stored(search: optuna.Study, generation: int) -> optuna.Study | None:
    return study_beside(search, confirmation_name(search.study_name, generation))
