"""The packed arithmetic against TRL's trainer: the same samples in, the same losses, gradients and weights out."""

import copy
import math

import pytest
import torch
from transformers import AutoTokenizer

from objectives.learners.packed import scoring
from objectives.learners.packed.advantages import groups_with_signal
from objectives.learners.packed.grpo import Objective
from objectives.learners.trl_objective import objective_arguments
from objectives.settings.learner import TrlSettings
from objectives.settings.sections import SHIPPED_MODELS
from tests.support.packed import (
    Recorded,
    differences,
    padding,
    trl_run,
)
from tests.support.packed_steps import (
    ADVANTAGES,
    EXACT,
    LORAS,
    RATES,
    objective,
    packed_batch,
    packed_with,
    recorded_rewards,
    start,
    train,
)

CLOSE = 2e-6
"""In float64, where positions or attention's shapes differ: norms and rotary embeddings of these models are computed
in float32 whatever their weights are in. A step moves weights by up to 1e-2."""
SILENT = (0, 11)
"""Seeds of recorded trials whose first rollout has one group of four without a signal each."""
CORRECTIONS = ("sequence_mask", "sequence_truncate", "token_mask", "token_truncate")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(SHIPPED_MODELS / "tiny", padding_side="left")


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize(
    ("loss_type", "micro_batch_size"),
    [("grpo", None), ("dapo", None), ("dr_grpo", None), ("grpo", 8), ("dapo", 8), ("dr_grpo", 8), ("dapo", 2)],
)
def test_weights_after_several_steps_are_those_of_TRL_alone(tokenizer, loss_type, micro_batch_size, iterations):
    trials = [Recorded(seed=seed, equal_prompts=True) for seed in SILENT]
    goal = objective(trials[0], loss_type=loss_type)
    options = {"max_grad_norm": 0.02, "micro_batch_size": micro_batch_size}
    steps = {"steps": 3, "iterations": iterations, "dtype": torch.float64}
    plain, models, stepper = start(torch.float64, trials, goal, prompt_once=False, **options)
    measured = train(plain, stepper, trials, goal, **steps)
    cached, _, stepper = start(torch.float64, trials, goal, **options)
    train(cached, stepper, trials, goal, **steps)
    for k, model in enumerate(models):
        logs = trl_run(
            model,
            trials[k],
            steps=3,
            tokenizer=tokenizer,
            learning_rate=RATES[k],
            loss_type=loss_type,
            num_iterations=iterations,
            **options,
        )
        assert differences(plain, k, model, LORAS[k].r) < EXACT
        assert differences(cached, k, model, LORAS[k].r) < CLOSE
        for step, (log, (ours, silent)) in enumerate(zip(logs, measured, strict=True)):
            assert ours.grad_norm[k] == pytest.approx(log["grad_norm"], rel=1e-5)
            assert log["grad_norm"] > options["max_grad_norm"]  # so that clipping takes part
            assert ours.loss[k] == pytest.approx(log["loss"], abs=1e-6)
            if micro_batch_size is None:  # TRL reports a mean of micro-batches, whose sizes in tokens differ
                if silent[k] == 0:
                    assert ours.entropy[k] == pytest.approx(log["entropy"], rel=1e-5)
                assert ours.clip_ratio[k] == pytest.approx(log["clip_ratio/region_mean"], abs=1e-6)
            if step % iterations == 0:
                assert silent[k] == pytest.approx(log["frac_reward_zero_std"])
    assert padding(plain, 0, LORAS[0].r) == padding(cached, 0, LORAS[0].r) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"beta": 0.1},
        {"beta": 0.1, "num_iterations": 2, "micro_batch_size": 8, "loss_type": "grpo"},
        {"scale_rewards": "batch"},
        {"scale_rewards": "none", "temperature": 0.7, "epsilon": 0.05, "num_iterations": 2},
        {"epsilon": 0.3, "epsilon_high": 0.01, "num_iterations": 2},
        {"epsilon": 0.01, "epsilon_high": 0.02, "delta": 1.03, "num_iterations": 2},
        {"mask_truncated_completions": True},
        {"mask_truncated_completions": True, "loss_type": "grpo", "micro_batch_size": 8},
        {"mask_truncated_completions": True, "loss_type": "dr_grpo", "num_iterations": 2},
        {"mask_truncated_completions": True, "loss_type": "bnpo", "beta": 0.1},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.01, "num_iterations": 2},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "beta": 0.1, "micro_batch_size": 8},
        {"importance_sampling_level": "sequence", "mask_truncated_completions": True, "num_iterations": 2},
        {"loss_type": "cispo", "epsilon_high": 1.01, "num_iterations": 2},
        {"loss_type": "cispo", "epsilon_high": 5.0, "num_iterations": 2, "micro_batch_size": 8, "beta": 0.1},
        {"entropy_coef": 0.1},
        {"entropy_coef": 0.1, "loss_type": "grpo", "num_iterations": 2, "mask_truncated_completions": True},
        {"weight_decay": 0.5},
        {"adam_beta1": 0.5, "adam_beta2": 0.8},
        {"lr_scheduler_type": "linear"},
        {"lr_scheduler_type": "cosine", "num_iterations": 2},
        {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2},
        {"lr_scheduler_type": "cosine", "warmup_ratio": 0.3},
        {"lr_scheduler_type": "cosine_with_min_lr", "min_lr_rate": 0.5, "warmup_steps": 0.2},
    ],
)
def test_every_other_setting_does_what_it_does_in_TRL(tokenizer, options):
    trials = [Recorded(seed=k, equal_prompts=True, ends=True) for k in range(2)]
    packed, models, measured = packed_with(trials, options)
    without, _, _ = packed_with(trials, {})
    assert (packed.weights - without.weights).abs().max() > 1e-4
    arguments = objective_arguments(TrlSettings(**options)) | {
        # A study's trainer gets these from the engine, with the rollout.
        "mask_truncated_completions": options.get("mask_truncated_completions", False)
    }
    for k, model in enumerate(models):
        logs = trl_run(
            model,
            trials[k],
            steps=4,
            tokenizer=tokenizer,
            learning_rate=RATES[k],
            micro_batch_size=options.get("micro_batch_size"),
            **arguments,
        )
        assert differences(packed, k, model, LORAS[k].r) < ADVANTAGES
        for log, (ours, _) in zip(logs, measured, strict=True):
            assert ours.loss[k] == pytest.approx(log["loss"], abs=1e-6)
            if "beta" in options and "micro_batch_size" not in options:
                assert ours.kl[k] == pytest.approx(log["kl"], rel=1e-5)
            assert (ours.kl is None) == ("beta" not in options)
    if {"epsilon", "epsilon_high"} & options.keys() and options.get("epsilon_high") != 5.0:
        assert any(ours.clip_ratio[0] > 0 for ours, _ in measured)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_corrections_for_the_engine_are_those_of_TRL(tokenizer, correction):
    trials = [Recorded(seed=seed, equal_prompts=True) for seed in SILENT]
    goal = objective(trials[0], correction=correction)
    packed, models, stepper = start(torch.float64, trials, goal, prompt_once=False)
    train(packed, stepper, trials, goal, steps=4, iterations=2, dtype=torch.float64)
    for k, model in enumerate(models):
        trl_run(
            model,
            trials[k],
            steps=4,
            tokenizer=tokenizer,
            learning_rate=RATES[k],
            num_iterations=2,
            loss_type="dapo",
            correction=correction,
        )
        assert differences(packed, k, model, LORAS[k].r) < EXACT


@pytest.mark.parametrize("correction", ["none", "token_truncate"])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
@pytest.mark.parametrize("micro_batch_size", [None, 8])
@pytest.mark.parametrize("mute", [False, True])
def test_groups_without_a_signal_are_left_out_and_change_nothing(
    monkeypatch, loss_type, micro_batch_size, correction, mute
):
    trials = [Recorded(seed=seed, equal_prompts=True) for seed in SILENT]
    goal = objective(trials[0], loss_type=loss_type, correction=correction)
    own = recorded_rewards(trials, 0)
    own[0, 5] = math.nan
    if mute:
        own[1] = 1.0

    def weights():
        packed, _, stepper = start(torch.float64, trials, goal, micro_batch_size=micro_batch_size, max_grad_norm=0.02)
        made, _ = packed_batch(trials, 0, goal, rewards=own, order=stepper.order)
        return packed.weights, [stepper.step(range(2), made) for _ in range(3)], made.completions.shape[1]

    some, measured, left = weights()
    monkeypatch.setattr(scoring, "groups_with_signal", every_group)
    every, expected, whole = weights()
    assert (left, whole) == (12, 16)
    torch.testing.assert_close(some, every, rtol=0, atol=EXACT)
    for ours, right in zip(measured, expected, strict=True):
        assert ours.loss == pytest.approx(right.loss, abs=1e-7)  # advantages are in float32
        assert ours.clip_ratio == pytest.approx(right.clip_ratio, abs=1e-7)
    if mute:
        assert (measured[0].loss[1], measured[0].grad_norm[1]) == (0, 0)
        assert math.isnan(measured[0].entropy[1])


def every_group(advantage, objective):
    """Leaves nothing out."""
    groups = torch.arange(advantage.shape[1] // objective.group_size).expand(len(advantage), -1)
    return groups, torch.ones_like(groups)


def test_a_trial_has_the_groups_that_tell_it_something_and_others_make_up_numbers():
    goal = Objective(loss_type="dapo", group_size=2, max_completion_tokens=4)
    advantage = torch.tensor([[0.0, 0.0, 1.0, -1.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0, 0.5, -0.5]])
    groups, signal = groups_with_signal(advantage, goal)
    assert groups.tolist() == [[0, 1], [0, 2]]
    assert signal.tolist() == [[0, 1], [1, 1]]
    assert groups_with_signal(torch.zeros(1, 4), goal)[0].tolist() == [[0]]  # there is always something to step on
    with_kl = Objective(loss_type="dapo", group_size=2, max_completion_tokens=4, beta=0.1)
    assert groups_with_signal(advantage, with_kl)[0].tolist() == [[0, 1, 2]] * 2


def test_entropy_is_of_groups_with_a_signal_whatever_the_neighbours():
    trials = [Recorded(seed=seed, equal_prompts=True) for seed in (SILENT[0], 1)]
    goal = objective(trials[0])

    def entropy(members):
        chosen = [trials[i] for i in members]
        packed, _, stepper = start(torch.float64, chosen, goal, order=members)
        measured = train(packed, stepper, chosen, goal, steps=1, dtype=torch.float64)
        return measured[0][0].entropy[members.index(0)]

    assert entropy([0, 1]) == pytest.approx(entropy([0]), rel=1e-6)


@pytest.mark.parametrize("prompt_once", [True, False])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_in_float32_one_step_has_the_logprobs_loss_and_gradients_of_TRL_alone(tokenizer, loss_type, prompt_once):
    trials = [Recorded(seed=k) for k in range(2)]
    goal = objective(trials[0], loss_type=loss_type)
    packed, models, stepper = start(torch.float32, trials, goal, max_grad_norm=1e9, prompt_once=prompt_once)
    batch, _ = packed_batch(trials, 0, goal)
    measured = stepper.step(range(2), batch)
    for k, model in enumerate(models):
        gradients = {}

        def keep(model, gradients=gradients):
            gradients.update({n: p.grad.clone() for n, p in model.named_parameters() if "lora_" in n})

        seen = spy_on_logprobs(model)
        log = trl_run(
            model,
            trials[k],
            steps=1,
            tokenizer=tokenizer,
            loss_type=loss_type,
            max_grad_norm=1e9,
            on_step=keep,
        )[0]
        assert measured.loss[k] == pytest.approx(log["loss"], abs=1e-5)
        ours = sorted(batch.old[0][k][batch.completion_mask[k].bool()].tolist())
        theirs = sorted(seen(batch.completion_mask[k].sum().item(), trials[k]))
        assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-5
        offset = 0
        for name, module in packed.modules.items():
            for factor, r_axis in (("A", 0), ("B", 1)):
                parameter = getattr(module, f"lora_{factor}")
                flat = packed.gradients[k, offset : offset + parameter[k].numel()]
                offset += parameter[k].numel()
                mine = flat.view(parameter[k].shape).narrow(r_axis, 0, LORAS[k].r)
                other = gradients[f"base_model.model.{name}.lora_{factor}.default.weight"]
                torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)


def spy_on_logprobs(model):
    """Log-probabilities that the model gives the recorded completions before it is trained, as PEFT computes them."""
    untrained = copy.deepcopy(model)

    def read(count, recorded):
        prompts, completions, _ = recorded.rollout(0)
        values = []
        for prompt, completion in zip(prompts, completions, strict=True):
            logits = untrained(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
            chosen = logits.log_softmax(-1).gather(-1, torch.tensor(completion).unsqueeze(-1))
            values += chosen.flatten().tolist()
        assert len(values) == count
        return values

    return read


def test_a_trial_does_not_depend_on_its_neighbours():
    """The same weights alone, beside another, and in another slot: to float64's rounding."""

    def after(members):
        trials = [Recorded(seed=i, longest_prompt=6 + 3 * i) for i in members]
        goal = objective(trials[0])
        packed, _, stepper = start(torch.float64, trials, goal, order=members)
        train(packed, stepper, trials, goal, steps=3, dtype=torch.float64)
        return packed.weights[members.index(0)]

    alone = after([0])
    torch.testing.assert_close(after([0, 1]), alone, rtol=0, atol=1e-9)
    torch.testing.assert_close(after([1, 0]), alone, rtol=0, atol=1e-9)


def test_a_loss_that_is_not_finite_is_reported_and_stays_in_its_slot():
    trials = [Recorded(seed=k) for k in range(2)]
    goal = objective(trials[0])
    healthy, _, stepper = start(torch.float64, trials, goal)
    expected = train(healthy, stepper, trials, goal, steps=2, dtype=torch.float64)
    sick, _, stepper = start(torch.float64, trials, goal)
    sick.weights[0, 0] = math.nan
    before = sick.weights[0].clone()
    measured = train(sick, stepper, trials, goal, steps=2, dtype=torch.float64)
    for (ours, _), (right, _) in zip(measured, expected, strict=True):
        assert math.isnan(ours.loss[0])
        assert math.isnan(ours.grad_norm[0])
        assert ours.loss[1] == pytest.approx(right.loss[1])
    torch.testing.assert_close(sick.weights[1], healthy.weights[1], rtol=0, atol=1e-12)
    assert torch.equal(sick.weights[0].nan_to_num(), before.nan_to_num())
