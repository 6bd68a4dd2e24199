"""What the tests of packed trials on the real engine share: a feed, a watched engine, and learners."""

import threading

from objectives.engines.adapter_files import AdapterFolder
from objectives.engines.protocol import Sampling
from objectives.errors import EngineError
from objectives.learners.packed.learner import PackedLearner
from objectives.lora import LoraSpec
from objectives.rewards.calling import RewardSet
from objectives.rewards.checked import checked
from objectives.settings.learner import PackedSettings, TrlSettings
from objectives.settings.sections import BudgetSettings, RunSettings, WorkerSettings
from objectives.settings.tasks import StringOpsSettings
from objectives.tasks.string_ops import StringOps
from objectives.trial.evaluation import Evaluator
from objectives.trial.messages import TrialSpec, trial_name
from objectives.trial.resources import Loaded
from tests.support.feed import Feed as SoloFeed

STEPS = 4
SLOTS = 3


class Feed(SoloFeed):
    """Hands out given trials, prunes given ones at a step, and remembers what it is told in order."""

    def __init__(self, *specs, prune=(), stop_at=None):
        super().__init__(*specs)
        self.prune, self.news, self.stop_at = dict(prune), [], stop_at

    def take(self, block=True):
        return super().take()

    def progress(self, number, metrics):
        super().progress(number, metrics)
        self.news.append((number, metrics.step))
        self.stopped |= metrics.step == self.stop_at

    def pruned(self, number):
        return self.steps[-1][1].step >= self.prune.get(number, 10**9)

    def of(self, number):
        return [metrics for other, metrics in self.steps if other == number]


class Engine:
    """The real engine, which may be asked for one thing at a time, and a record of what it was asked."""

    def __init__(self, engine, *, refuses=None):
        self._engine, self.refuses, self.calls, self._idle = engine, refuses, [], threading.Lock()

    def rollout(self, prompts, adapters, sampling, seeds):
        assert self._idle.acquire(blocking=False), "the engine is busy"
        try:
            self.calls.append((prompts, adapters, sampling, seeds))
            return self.answer(prompts, adapters, sampling, seeds)
        finally:
            self._idle.release()

    def answer(self, prompts, adapters, sampling, seeds):
        if any(adapter is not None and adapter.name.startswith(f"{self.refuses}-") for adapter in adapters):
            raise EngineError(f"no {self.refuses} here")
        return self._engine.rollout(prompts, adapters, sampling, seeds)

    def trains(self, prompts):
        """Whether a call is for training, which asks for several completions of a prompt side by side."""
        return list(prompts[0]) == list(prompts[1])

    def training(self):
        """Calls for training."""
        return [call for call in self.calls if self.trains(call[0])]

    def training_of(self, number):
        """The same, of each only what was asked for one trial."""
        for prompts, adapters, sampling, seeds in self.training():
            own = [i for i, adapter in enumerate(adapters) if adapter.name.startswith(f"{trial_name(number)}-")]
            if own:
                yield [prompts[i] for i in own], [adapters[i] for i in own], sampling, [seeds[i] for i in own]


def spec(number=0, *, r=8, alpha=32, seed=None, learning_rate=2e-3):
    lora = LoraSpec(r=r, alpha=alpha)
    return TrialSpec(
        number=number, lora=lora, learning_rate=learning_rate, seed=number if seed is None else seed, score_after=(1, 2)
    )


def learners(*, model, policy, vllm_engine, folder):
    """What makes learners of a few prompts on the real policy and engine."""

    def make(
        kind=PackedLearner,
        *,
        slots=SLOTS,
        steps=STEPS,
        reward=None,
        engine=None,
        model=model,
        checkpoint_s=60.0,
        keep_checkpoints=False,
        greedy=True,
        **learner,
    ):
        engine = Engine(vllm_engine) if engine is None else engine
        task = StringOps(symbols=1, seed=0)
        rewards = RewardSet(functions=(checked(reward or task.reward_functions[0]),), weights=(1.0,))
        settings = WorkerSettings(
            study="test",
            model=model,
            task=StringOpsSettings(name="string_ops", symbols=1, held_out_prompts=64, train_prompts=20),
            learner=PackedSettings(name="packed", **learner) if kind is PackedLearner else TrlSettings(**learner),
            budget=BudgetSettings(steps=steps, prompts_per_step=8, group_size=4),
            run=RunSettings(checkpoint_s=checkpoint_s, keep_checkpoints=keep_checkpoints),
            log_folder=folder / "logs",
        )
        evaluator = Evaluator(
            engine=engine,
            tokenizer=policy.tokenizer,
            rewards=rewards,
            rows=task.held_out_rows(64),
            sampling=Sampling.of(settings.learner, max_tokens=task.max_completion_tokens),
            greedy=greedy,
        )
        loaded = Loaded(policy=policy, engine=engine, task=task, rewards=rewards, evaluator=evaluator, facts={})
        made = kind(
            settings=settings,
            loaded=loaded,
            adapters=AdapterFolder(folder / "adapters"),
            **({"slots": slots} if kind is PackedLearner else {}),
        )
        made.engine = engine
        return made

    return make
