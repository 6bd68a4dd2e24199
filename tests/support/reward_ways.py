"""The three ways in which a study calls rewards: trying them, training with either learner, scoring."""

from dataclasses import dataclass, field
from typing import Any

from objectives.engines.adapter_files import AdapterFolder
from objectives.engines.protocol import Sampling
from objectives.errors import RewardError, UnrewardedError
from objectives.learners.build import make_learner
from objectives.lora import LoraSpec
from objectives.preview import sample
from objectives.rewards.calling import RewardSet
from objectives.rewards.checked import checked
from objectives.settings.learner import PackedSettings, TrlSettings
from objectives.settings.sections import BudgetSettings, ModelSettings, WorkerSettings
from objectives.settings.tasks import StringOpsSettings
from objectives.trial.evaluation import Due, Evaluator
from objectives.trial.messages import TrialSpec
from objectives.trial.resources import Loaded
from tests.support.packed_trials import Feed

PROMPTS, GROUP, STEPS, HELD_OUT = 4, 4, 2, 8


@dataclass
class Ways:
    """A task and its rewards on a real policy and engine."""

    policy: Any
    engine: Any
    model: ModelSettings
    task: Any
    folder: Any
    timeout_s: float = 1.0
    log: str = field(default="", init=False)

    def outcome(self, way, reward, name="reward"):
        """What a way makes of a reward: what it measured, or the one line that refuses it."""
        rewards = RewardSet(
            functions=(checked(reward, name=name, timeout_s=self.timeout_s),), weights=(1.0,), max_steps=STEPS
        )
        try:
            return getattr(self, way)(rewards)
        except (RewardError, UnrewardedError) as error:
            return str(error)

    def tried(self, rewards):
        return sample(self._loaded(rewards), self._settings("trl"), prompts=PROMPTS)

    def scored(self, rewards):
        return self._loaded(rewards).evaluator.score(Due(adapter=None, step=0, seed=0))

    def trl(self, rewards):
        return self._trained("trl", rewards)

    def packed(self, rewards):
        return self._trained("packed", rewards)

    def _trained(self, learner, rewards):
        settings = self._settings(learner)
        feed = Feed(TrialSpec(number=0, lora=LoraSpec(r=4, alpha=8), learning_rate=1e-3, seed=3))
        adapters = AdapterFolder(self.folder / "adapters")
        try:
            make_learner(settings, self._loaded(rewards), adapters).serve(feed)
        finally:
            self.log = (settings.log_folder / "trial-0000.log").read_text()
        if feed.failures:
            raise feed.failures[0]
        return [metrics for _, metrics in feed.steps]

    def _settings(self, learner):
        return WorkerSettings(
            study="test",
            model=self.model,
            task=StringOpsSettings(name="string_ops", train_prompts=20, reward_timeout_s=self.timeout_s),
            learner=PackedSettings(name="packed", pack_size=1) if learner == "packed" else TrlSettings(),
            budget=BudgetSettings(steps=STEPS, prompts_per_step=PROMPTS, group_size=GROUP),
            log_folder=self.folder / f"logs-{learner}",
        )

    def _loaded(self, rewards):
        evaluator = Evaluator(
            engine=self.engine,
            tokenizer=self.policy.tokenizer,
            rewards=rewards,
            rows=self.task.held_out_rows(HELD_OUT),
            sampling=Sampling.of(TrlSettings(), max_tokens=self.task.max_completion_tokens),
        )
        return Loaded(
            policy=self.policy, engine=self.engine, task=self.task, rewards=rewards, evaluator=evaluator, facts={}
        )
