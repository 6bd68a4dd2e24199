"""What longer ladders bring a stored study: what is new, and which confirmation counts from then on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweep.confirmation.naming import confirmation_study, generation_of
from sweep.errors import StudyMismatchError, UsageError
from sweep.search.design import design, point_key
from sweep.search.schedule import ended_trials
from sweep.storage.attributes import LOOKS
from sweep.storage.database import match_study
from sweep.storage.ladders import LADDERS, Ladders, earlier_ladders, longer
from sweep.storage.summary import stored_config
from sweep.study.file import StudyFile

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """What longer ladders bring."""

    config: StudyFile
    """The study with them."""
    before: Ladders
    gained: dict[str, tuple[Any, ...]]
    """Rungs that are new, by ladder."""
    trials: int
    """That are stored, and stay."""
    ended: int
    """Of these, that count towards `search.trials`."""
    new_points: int
    """Of the design."""
    confirmation: str | None
    """The confirmation that was begun, and stays as it is; None where none was."""
    looks: tuple[int, ...]
    """At which a verdict was asked of it."""
    generation: int
    """Of the confirmation that counts from here on."""

    @property
    def trials_needed(self) -> int:
        """What `search.trials` must be for the new points to be run."""
        return self.ended + self.new_points


def plan_extension(study: optuna.Study, config: StudyFile) -> Extension:
    """Looks at what it would bring.

    Args:
        study: As it is stored.
        config: With longer ladders, settled for this machine.

    Raises:
        StudyMismatchError: where anything else differs, or a ladder would lose a rung.
        UsageError: where no ladder gains one.
    """
    stored = stored_config(study)
    # Compared under the ladders that it has, so that whatever else differs is refused.
    as_was = {name: getattr(stored.space, name) for name in LADDERS}
    match_study(study, config.model_copy(update={"space": config.space.model_copy(update=as_was)}))
    before, after = stored.search_space().ladders, config.search_space().ladders
    try:
        gained = longer(before, after)
    except ValueError as error:
        raise StudyMismatchError(
            f"study {study.study_name!r} cannot be extended: {error}; allowed: every rung that it has, and more"
        ) from error
    if not gained:
        raise UsageError(
            f"study {study.study_name!r} has these ladders already; allowed: more rungs in "
            f"{', '.join(f'space.{name}' for name in before)}"
        )
    confirmation = confirmation_study(study)
    begun = confirmation is not None and bool(confirmation.get_trials(deepcopy=False))
    generation = generation_of(study)
    earlier = earlier_ladders(study)
    old = {point_key(point) for point in design(stored, earlier)}
    new = {point_key(point) for point in design(config, [*earlier, before])} - old
    return Extension(
        config=config,
        before=before,
        gained=gained,
        trials=len(study.get_trials(deepcopy=False)),
        ended=len(ended_trials(study)),
        new_points=len(new),
        confirmation=confirmation.study_name if confirmation is not None and begun else None,
        looks=tuple(confirmation.user_attrs.get(LOOKS, ())) if confirmation is not None and begun else (),
        generation=generation + begun,
    )
