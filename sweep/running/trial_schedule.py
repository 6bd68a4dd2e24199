"""What a schedule is: it knows which trials a study is to hold, and asks Optuna for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from objectives.trial.messages import TrialSpec

if TYPE_CHECKING:
    import optuna


class TrialSchedule(Protocol):
    """Which trials a study is to hold."""

    @property
    def trials(self) -> int:
        """How many in all."""

    @property
    def score_after(self) -> tuple[int, ...]:
        """Steps after which each is scored, besides its last."""

    def queue(self, study: optuna.Study) -> None:
        """Queues what is known beforehand and not held yet."""
        ...

    def next_trial(self, study: optuna.Study) -> optuna.Trial | None:
        """Asks for the next one: its parameters and its seed are set. None where somebody has dropped it."""
        ...

    def needs(self, spec: TrialSpec) -> bool:
        """Whether a trial that runs is still wanted; one that isn't is ended, and counts for nothing."""
        ...
