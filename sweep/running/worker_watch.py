"""What a worker was last known to do, followed from outside it: for when it hangs or dies and cannot say."""

from __future__ import annotations

import time

from objectives.stages import IDLE, Stage
from objectives.trial.messages import Failed, Finished, FromWorker, Progress, Ready, Resumed, Start, ToWorker

GRACE_S = 2.0
"""A call over its limit is interrupted from inside the worker first, which tells more. After so long it will not be."""


class WorkerWatch:
    """Follows the messages between a supervisor and its worker."""

    def __init__(self) -> None:
        self.ready = False
        self.stage = IDLE
        self._since = time.monotonic()
        self._steps: dict[int, int] = {}

    def sent(self, message: ToWorker) -> None:
        """A message went to the worker."""
        if isinstance(message, Start):
            self._steps[message.spec.number] = 0

    def received(self, message: FromWorker) -> None:
        """A message came from the worker."""
        match message:
            case Stage():
                self.stage, self._since = message, time.monotonic()
            case Ready():
                self.ready = True
            case Resumed(number=number, step=step):
                self._steps[number] = step
            case Progress(number=number, metrics=metrics):
                self._steps[number] = metrics.step
            case Finished(number=number) | Failed(number=int(number)):
                self._steps.pop(number, None)

    @property
    def where(self) -> str:
        """What the worker was doing, in words that follow "it died"."""
        if not self.ready:
            return f"while {self.stage.doing or 'starting up'}"
        trials = [f"step {done + 1} of trial {number}" for number, done in sorted(self._steps.items())]
        doing = [f"while {self.stage.doing}"] if self.stage.doing else []
        return ", ".join([*doing, *(["in " + ", ".join(trials)] if trials else [])]) or "between trials"

    @property
    def hangs(self) -> str:
        """What is over its limit and did not let itself be interrupted, in words; empty where nothing is."""
        limit_s, reward = self.stage.limit_s, self.stage.reward
        if limit_s is None or time.monotonic() - self._since < limit_s + GRACE_S:
            return ""
        if reward is None:
            return (
                f"{self.stage.doing} took longer than {limit_s:g} s: a module of rewards should only define functions"
            )
        return (
            f"reward {reward} took longer than reward_timeout_s={limit_s:g} and could not be interrupted ({self.where})"
        )
