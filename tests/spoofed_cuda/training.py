"""A child process: two trials of a TRL study on scripted rollouts, on a card by Unsloth, or by TRL on the processor.

    python -m tests.spoofed_cuda.training FOLDER unsloth|trl > told.json

Unsloth's base is in float16: Triton 3.8's interpreter computes bfloat16 wrong.
"""

import os
import random
import sys
import weakref
from pathlib import Path

from tests.spoofed_cuda import card

BY_UNSLOTH = sys.argv[2] == "unsloth"
if BY_UNSLOTH:
    card.insert(24)
    import objectives.policies.unsloth as policies

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file

from objectives.engines.adapter_files import AdapterFolder
from objectives.engines.protocol import Completion, Sampling
from objectives.learners import trl
from objectives.lora import LoraSpec
from objectives.policies.peft import PeftPolicy
from objectives.rewards.calling import RewardSet
from objectives.rewards.checked import checked
from objectives.settings.learner import TrlSettings
from objectives.settings.sections import BudgetSettings, ModelSettings, WorkerSettings
from objectives.settings.tasks import StringOpsSettings
from objectives.tasks.string_ops import StringOps
from objectives.trial.evaluation import Evaluator
from objectives.trial.messages import TrialSpec
from objectives.trial.resources import Loaded
from tests.spoofed_cuda.as_json import fields
from tests.support.feed import Feed

FOLDER = Path(sys.argv[1])
RANKS = (8, 64)
DTYPE = "float16" if BY_UNSLOTH else "float32"
MODEL = ModelSettings(name="shipped/tiny", max_lora_rank=64, dtype=DTYPE, max_seq_length=64)
SETTINGS = WorkerSettings(
    study="study",
    model=MODEL,
    task=StringOpsSettings(name="string_ops", symbols=1, held_out_prompts=4),
    learner=TrlSettings(),
    budget=BudgetSettings(steps=2, prompts_per_step=2, group_size=2),
    log_folder=FOLDER / "logs",
)


class SharedEngine:
    """Stands for the vLLM that Unsloth starts on the policy's weights: rollouts are not TRL's to ask for."""

    shared_weights = True
    asked = 0

    def generate(self, *_, **__):
        """Refuses."""
        SharedEngine.asked += 1
        raise AssertionError("TRL has asked the engine")

    chat = generate


class Scripted:
    """An engine of ours that draws tokens by their seeds, and remembers what it was asked."""

    name, max_lora_rank = "scripted", 64

    def __init__(self):
        self.rollouts = []

    def rollout(self, prompts, adapters, sampling, seeds):
        """See `Engine.rollout`."""
        self.rollouts.append([adapter and adapter.r for adapter in adapters])
        return [Completion(token_ids=tuple(random.Random(seed).choices(range(3, 60), k=4))) for seed in seeds]


class Watching(Feed):
    """Between two trials, looks at what the last one has left."""

    def take(self):
        """See `TrialFeed.take`."""
        now = dict(os.environ)
        left.append({name: now.get(name) for name in now | before if now.get(name) != before.get(name)})
        alive.append([trainer() is not None for trainer in trainers])
        return super().take()


def spread(prompts, completions, **_):
    """A reward that differs between any two completions."""
    return [float(sum(map(ord, completion)) % 97) for completion in completions]


def loaded(policy):
    """What a worker would have loaded."""
    task, engine = StringOps(symbols=1, seed=0), Scripted()
    rewards = RewardSet(functions=(checked(spread),), weights=(1.0,))
    sampling = Sampling.of(SETTINGS.learner, max_tokens=task.max_completion_tokens)
    evaluator = Evaluator(
        engine=engine, tokenizer=policy.tokenizer, rewards=rewards, rows=task.held_out_rows(4), sampling=sampling
    )
    return Loaded(policy=policy, engine=engine, task=task, rewards=rewards, evaluator=evaluator, facts={})


def watched(trainer_class):
    """TRL's trainer, as Unsloth has made it, which is seen."""

    class Watched(trainer_class):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            trainers.append(weakref.ref(self))
            told["arguments"].append(fields(self.args))
            trained = [weight for weight in self.model.parameters() if weight.requires_grad]
            told["formats"].append(sorted({str(weight.dtype) for weight in trained}))

    return Watched


def serve(policy):
    """Trains the trials."""
    everything = loaded(policy)
    adapters = AdapterFolder(FOLDER / "adapters", keep_in=FOLDER)
    learner = trl.TrlLearner(settings=SETTINGS, loaded=everything, adapters=adapters)
    feed = Watching(
        *(
            TrialSpec(number=i, lora=LoraSpec(r=r, alpha=16), learning_rate=1e-3, seed=i, score_after=(2,))
            for i, r in enumerate(RANKS)
        )
    )
    learner.serve(feed)
    told["failures"] = {number: repr(error) for number, error in feed.failures.items()}
    told["steps"] = [(number, fields(metrics)) for number, metrics in feed.steps]
    told["rollouts"], told["asked"] = everything.engine.rollouts, SharedEngine.asked
    for number in feed.results:
        weights = load_file(FOLDER / f"trial-{number:04d}-adapter" / "adapter_model.safetensors")
        moved = [bool(weight.any()) for name, weight in weights.items() if "lora_B" in name]
        told["moved"].append([sum(moved), len(moved)])


def same_weights(policy, weights):
    """Whether the base is what it was, to the bit."""
    now = policy.base.state_dict()
    return now.keys() == weights.keys() and all(torch.equal(now[name], weights[name]) for name in weights)


def take_turns(policy, weights):
    """Wraps the base at one rank after the other; what Unsloth says to a second wrapping, and one that fails."""
    turns = []
    for r in (8, 64, 1):
        model = policy.build(LoraSpec(r=r, alpha=16), seed=r)
        adapted = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
        turns.append([r, *sorted({module.r["default"] for module in adapted})])
        try:
            policies.FastLanguageModel.get_peft_model(model, r=r + 1)
        except TypeError as error:
            turns[-1].append(str(error))
        policy.release()
        turns[-1].append(same_weights(policy, weights))
        turns[-1].append(policy.engine is engine)
    told["turns"] = turns
    patch = policies.FastLanguageModel.patch_peft_model
    policies.FastLanguageModel.__mro__[1].patch_peft_model = staticmethod(fail)
    try:
        policy.build(LoraSpec(r=8, alpha=16), seed=0)
    except MemoryError:
        told["half_wrapped"] = [name for name, m in policy.base.named_modules() if isinstance(m, BaseTunerLayer)]
    policies.FastLanguageModel.__mro__[1].patch_peft_model = staticmethod(patch)
    policy.build(LoraSpec(r=8, alpha=16), seed=0)
    policy.release()
    told["after_failure"] = same_weights(policy, weights)


def fail(*_, **__):
    """Fails a wrapping whose modules are wrapped already."""
    raise MemoryError("no room")


told = {"arguments": [], "formats": [], "moved": []}
trainers, left, alive = [], [], []
if BY_UNSLOTH:
    policy = policies.UnslothPolicy(MODEL, max_lora_rank=64, fast_inference=False)
    engine = policy.base.vllm_engine = SharedEngine()
    policy.base.fast_generate = policy.base.fast_generate_batches = engine.generate
else:
    policy = PeftPolicy(MODEL)
weights = {name: weight.clone() for name, weight in policy.base.state_dict().items()}
if BY_UNSLOTH:
    take_turns(policy, weights)
trl.GRPOTrainer = watched(trl.GRPOTrainer)
before = dict(os.environ)
serve(policy)
told |= {"left": left, "alive": alive, "base": same_weights(policy, weights)}
card.answer(told)
