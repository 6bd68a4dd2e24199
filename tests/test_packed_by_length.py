"""Micro-batches of completions of like length: the same step as in the order of sampling, and less padding."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from objectives.learners.packed.by_length import by_length, longest_at
from objectives.learners.packed.step import Stepper
from tests.support.packed import Recorded
from tests.support.packed_steps import EXACT, objective, packed_batch, start

SEEDS = (0, 11)


@pytest.fixture
def all_in_float64(monkeypatch):
    """Transformers computes norms in float32 in a model of any format, which would leave seven digits to compare."""
    monkeypatch.setattr(
        LlamaRMSNorm,
        "forward",
        lambda self, x: self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt(),
    )


def test_completions_are_ordered_by_length_and_made_up_numbers_are_last():
    lengths = torch.tensor([[3, 1, 5, 2, 4, 4], [9, 9, 1, 2, 2, 1]])
    signal = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
    assert by_length(lengths, signal, group=1).tolist() == [[2, 4, 5, 0, 3, 1], [3, 4, 2, 5, 0, 1]]
    assert by_length(lengths, signal, group=2).tolist() == [[2, 3, 4, 5, 0, 1], [3, 2, 4, 5, 0, 1]]
    assert longest_at(torch.tensor([[3, 0], [2, 0]])) == [3, 1]


@pytest.mark.parametrize("dropped", [None, 1])
@pytest.mark.parametrize("prompt_once", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"loss_type": "grpo"},
        {"loss_type": "dapo", "beta": 0.1},
        {"loss_type": "dr_grpo", "mask_truncated_completions": True},
        {"correction": "sequence_truncate"},
        {"correction": "token_mask", "mask_truncated_completions": True},
    ],
)
@pytest.mark.parametrize("micro_batch_size", [2, 8])
def test_steps_are_those_in_the_order_of_sampling(all_in_float64, options, prompt_once, micro_batch_size, dropped):
    """Two steps on one batch; a trial may have left before the second."""
    trials = [Recorded(seed=seed, longest_prompt=4 + 4 * k, ends=True) for k, seed in enumerate(SEEDS)]
    goal = objective(trials[0], **options)

    def after(sort):
        packed, _, stepper = start(
            torch.float64, trials, goal, micro_batch_size=micro_batch_size, prompt_once=prompt_once
        )
        order = stepper.order if sort else "sampled"
        batch, _ = packed_batch(trials, 0, goal, torch.float64, order=order)
        told = [stepper.step(range(2), batch)]
        slots = [k for k in range(2) if k != dropped]
        told.append(stepper.step(slots, batch.only(slots)))
        return packed.weights, told, read_tokens(batch, micro_batch_size)

    weights, told, read = after(sort=True)
    expected, right, padded = after(sort=False)
    torch.testing.assert_close(weights, expected, rtol=0, atol=EXACT)
    for ours, theirs in zip(told, right, strict=True):
        for measure in ("loss", "grad_norm", "clip_ratio", "entropy"):
            torch.testing.assert_close(
                torch.tensor(getattr(ours, measure)), torch.tensor(getattr(theirs, measure)), rtol=1e-6, atol=1e-6
            )
    assert read < padded


def read_tokens(batch, size):
    """Tokens that passes read, padding among them, where a prompt is read for each of its completions."""
    parts = [batch.sequences(i, i + size) for i in range(0, batch.completions.shape[1], size)]
    return sum(len(s.completions) * (s.prompts.shape[1] + s.completions.shape[1]) for s in parts)


def test_batches_that_are_not_divided_keep_the_order_of_sampling():
    trials = [Recorded(seed=0)]
    packed, _, whole = start(torch.float64, trials, objective(trials[0]))
    assert whole.order == "sampled"
    options = {"max_grad_norm": 1.0, "micro_batch_size": 4}
    orders = [Stepper(packed, whole.optimizer, whole.objective, prompt_once=o, **options).order for o in (True, False)]
    assert orders == ["groups", "completions"]


@pytest.mark.parametrize("dropout_seed", [1, 2])
def test_a_trial_under_dropout_is_the_same_beside_longer_completions(all_in_float64, dropout_seed):
    options = {"micro_batch_size": 4, "prompt_once": False, "dropout": 0.3, "longest_prompt": 9}

    def after(members):
        trials = [Recorded(seed=SEEDS[i], longest_prompt=4 + 3 * i, longest_completion=4 + 4 * i) for i in members]
        goal = objective(Recorded(seed=0, longest_completion=8), loss_type="dapo")
        packed, _, stepper = start(torch.float64, trials, goal, order=members, **options)
        batch, _ = packed_batch(trials, 0, goal, order=stepper.order)
        stepper.step(range(len(members)), batch, [(dropout_seed + i, 0) for i in members])
        return packed.weights[members.index(0)]

    torch.testing.assert_close(after([1, 0]), after([0]), rtol=0, atol=EXACT)
