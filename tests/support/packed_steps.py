"""What tests of packed steps share: packs on recorded rollouts, beside the PEFT models that hold the same adapters."""

import torch

from objectives.engines.protocol import Completion
from objectives.learners.packed.grpo import Objective
from objectives.learners.packed.learner import learner_adamw, learner_objective
from objectives.learners.packed.linear import pack
from objectives.learners.packed.optimizer import PackedAdamW
from objectives.learners.packed.rollouts import Samples
from objectives.learners.packed.schedule import learner_schedule, schedule
from objectives.learners.packed.scoring import to_batch
from objectives.learners.packed.step import Stepper
from objectives.lora import TARGET_MODULES
from objectives.settings.learner import PackedSettings
from tests.support.packed import END, fill_B, lora, peft_model, random_model, reward, take_from

LORAS = (lora(2, 8), lora(8, 16))
RATES = (1e-2, 3e-3)
EXACT = 1e-10
"""In float64, where both run the very same sequences."""
ADVANTAGES = 1e-7
"""The same, with advantages that both compute in float32, in another order."""


def objective(recorded, **options):
    return Objective(
        **{"loss_type": "dapo"} | options,
        group_size=recorded.group,
        max_completion_tokens=recorded.longest_completion,
    )


def recorded_rewards(trials, rollout):
    """The rewards of a recorded rollout of each trial."""
    return torch.tensor([reward(*[trial.rollout(rollout)[1]] * 3) for trial in trials])


def packed_batch(trials, rollout, goal, dtype=torch.float32, rewards=None, order="sampled"):
    """The batch that a pack trains on, from the recorded rollouts of its trials, with their rewards or others."""
    samples = []
    for recorded in trials:
        prompts, completions, logprobs = recorded.rollout(rollout)
        sampled = [
            Completion(token_ids=t, logprobs=p, truncated=t[-1] != END)
            for t, p in zip(completions, logprobs, strict=True)
        ]
        samples.append(Samples(rows=[], prompts=prompts, completions=sampled))
    rewards = recorded_rewards(trials, rollout) if rewards is None else rewards
    batch, silent = to_batch(samples, rewards, goal, pad=0, device=torch.device("cpu"), order=order)
    if batch.sampler_logprobs is not None:
        batch.sampler_logprobs = batch.sampler_logprobs.to(dtype)
    return batch, silent


def start(dtype, trials, goal, *, order=None, max_grad_norm=1.0, filled=True, rates=None, adamw=None, **stepper):
    """A pack whose slots hold the adapters of some of LORAS, and the PEFT models that hold the same."""
    base, order = random_model(dtype=dtype), range(len(trials)) if order is None else order
    models = [peft_model(base, LORAS[i], seed=i) for i in order]
    if filled:
        models = [fill_B(model, i) for model, i in zip(models, order, strict=True)]
    packed = pack(base, TARGET_MODULES, slots=len(models), r_max=8)
    optimizer = PackedAdamW(packed.weights, packed.gradients, **adamw or {})
    for k, i in enumerate(order):
        take_from(packed, k, models[k], LORAS[i].scaling)
        optimizer.reset(k, RATES[i], rates or schedule("constant", steps=1))
    return packed, models, Stepper(packed, optimizer, goal, max_grad_norm=max_grad_norm, **stepper)


def train(packed, stepper, trials, goal, *, steps, iterations=1, dtype=torch.float32):
    """Several steps of a pack on recorded rollouts."""
    measured = []
    for step in range(steps):
        if step % iterations == 0:
            batch, silent = packed_batch(trials, step // iterations, goal, dtype, order=stepper.order)
        measured.append((stepper.step(range(packed.slots), batch), silent))
    return measured


def packed_with(trials, options):
    """Four steps of a pack on recorded rollouts under a study's settings, its models, and what was measured."""
    learner = PackedSettings(name="packed", **options)
    goal = learner_objective(learner, group_size=trials[0].group, max_completion_tokens=trials[0].longest_completion)
    # TRL's reference is the adapter as it was handed over; a trial's starts at nothing, so that it is the base.
    packed, models, stepper = start(
        torch.float64,
        trials,
        goal,
        rates=learner_schedule(learner, steps=4),
        adamw=learner_adamw(learner),
        micro_batch_size=learner.micro_batch_size,
        prompt_once=False,
        filled=False,
    )
    return (
        packed,
        models,
        train(packed, stepper, trials, goal, steps=4, iterations=learner.num_iterations, dtype=torch.float64),
    )
