"""Held-out scores of a pack's trials, taken while the engine does nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from objectives.engines.adapter_files import AdapterFolder
from objectives.errors import TrialError
from objectives.learners.packed.alternation import Rollouts
from objectives.learners.packed.trial_run import TrialRun, shared_time
from objectives.stages import trials_are
from objectives.trial.evaluation import Due, Evaluator
from objectives.trial.messages import HeldOutScore


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Scores trials, and charges them the time."""

    evaluator: Evaluator
    adapters: AdapterFolder
    rollouts: Rollouts

    def score(self, runs: Sequence[TrialRun], *, last: bool = False) -> dict[int, TrialError]:
        """Scores trials as they are now, unless they have been already, all of them in one go.

        Args:
            runs: The trials.
            last: Whether they end here, for all that is left of their budgets; greedy scores are for ends.

        Returns:
            What went wrong, by slot.

        Raises:
            EngineError: where memory was too short.
        """
        due = {run: run.spent or last for run in runs if not self._has_score(run, last=run.spent or last)}
        if not due:
            return {}
        for run in due:
            if run.scores and run.scores[-1].step == run.step:
                run.scores.pop()  # it was scored on the way, and ends here after all
        self.rollouts.settle()
        trials_are("scoring", *(run.spec.number for run in due))
        with shared_time(list(due), "evaluate"):
            outcomes = self.evaluator.scores(
                [
                    Due(
                        adapter=self.adapters.publish(run.owner, run.adapter, run.spec.r),
                        step=run.step,
                        seed=run.spec.seed,
                        last=ends,
                    )
                    for run, ends in due.items()
                ]
            )
        failed: dict[int, TrialError] = {}
        for run, outcome in zip(due, outcomes, strict=True):
            if isinstance(outcome, TrialError):
                failed[run.slot] = outcome
            else:
                run.scored(outcome)
        return failed

    def finish(self, run: TrialRun) -> HeldOutScore:
        """Scores a trial for the last time; the base policy's score under its seed.

        Raises:
            EngineError: where the engine fails.
            RewardError: where a function breaks its contract.
            UnrewardedError: where none applies to any completion.
        """
        for error in self.score([run], last=True).values():
            raise error
        self.rollouts.settle()
        with shared_time([run], "evaluate"):
            return self.evaluator.base_score(run.spec.seed, known=run.spec.base)

    def _has_score(self, run: TrialRun, *, last: bool) -> bool:
        if not run.scores or run.scores[-1].step != run.step:
            return False
        return not (last and self.evaluator.greedy and run.scores[-1].greedy is None)
