"""Held-out scores of a pack's trials, taken while the engine does nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from objectives.engines.adapter_files import AdapterFolder
from objectives.learners.packed.alternation import Rollouts
from objectives.learners.packed.trial_run import TrialRun, shared_time
from objectives.stages import trials_are
from objectives.trial.evaluation import Evaluator
from objectives.trial.messages import HeldOutScore


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Scores trials, and charges them the time."""

    evaluator: Evaluator
    adapters: AdapterFolder
    rollouts: Rollouts

    def score(self, run: TrialRun, *, last: bool) -> None:
        """Scores a trial as it is now, unless it has been already; `last` is for good, with a greedy score."""
        if run.scores and run.scores[-1].step == run.step:
            if run.scores[-1].greedy is not None or not last:
                return
            run.scores.pop()  # it was scored on the way, and ends here after all
        self.rollouts.settle()
        trials_are("scoring", run.spec.number)
        with shared_time([run], "evaluate"):
            version = self.adapters.publish(run.owner, run.adapter, run.spec.lora.r)
            run.scored(self.evaluator.score(version, step=run.step, seed=run.spec.seed, last=last))

    def base_score(self, run: TrialRun) -> HeldOutScore:
        """The base policy's score under a trial's seed."""
        self.rollouts.settle()
        with shared_time([run], "evaluate"):
            return self.evaluator.base_score(run.spec.seed)
