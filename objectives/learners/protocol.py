"""What a learner is: it takes trials from a feed, trains them, and tells the feed how they go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from objectives.trial.messages import StepMetrics, TrialResult, TrialSpec


class TrialFeed(Protocol):
    """Where trials come from and where their news goes."""

    def take(self, block: bool = True) -> TrialSpec | None:
        """The next trial, waiting for it if need be; None when there will be no more.

        Args:
            block: Without it, None may also mean that there is none just now.
        """
        ...

    @property
    def stopped(self) -> bool:
        """Whether all is to end at the next opportunity, with what is worth keeping written down."""
        ...

    def note(self, text: str) -> None:
        """Something that whoever watches should know."""
        ...

    def resumed(self, number: int, step: int, curve: Sequence[StepMetrics]) -> None:
        """This trial goes on from a checkpoint, with so many steps behind it, of which this was measured."""
        ...

    def progress(self, number: int, metrics: StepMetrics) -> None:
        """A step of this trial is done."""
        ...

    def pruned(self, number: int) -> bool:
        """Whether this trial should end now, and be scored.

        Raises:
            DroppedError: where it should end as it is.
        """
        ...

    def finish(self, number: int, result: TrialResult) -> None:
        """This trial has ended, by itself or pruned."""
        ...

    def fail(self, number: int, error: BaseException) -> None:
        """This trial cannot go on."""
        ...


class Learner(Protocol):
    """Trains trials, one at a time or several."""

    def serve(self, feed: TrialFeed) -> None:
        """Runs trials until the feed has no more. A trial that fails does not end the others.

        Raises:
            RewardError: where a reward function breaks its contract: every other trial would meet it too.
        """
        ...
