"""Dropout in packs: masks of a trial's own, the same whoever trains beside it, and none in rollouts."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from objectives.learners.packed.dropout import Dropout, dropout_seeds
from objectives.learners.packed.linear import pack
from tests.support.packed_trials import Feed, learners, spec

P = 0.3


@pytest.fixture
def make(tiny, unsloth_policy, vllm_engine, tmp_path):
    return learners(model=tiny, policy=unsloth_policy, vllm_engine=vllm_engine, folder=tmp_path)


def dropping(number, **options):
    made = spec(number, **options)
    return replace(made, lora=replace(made.lora, dropout=P))


def trained(make, tiny, *specs, slots=1, p=P, **learner):
    feed = Feed(*specs)
    model = tiny.model_copy(update={"lora_dropout": p, **learner.pop("settings", {})})
    make(slots=slots, steps=2, model=model, **learner).serve(feed)
    assert not feed.failures, feed.failures
    return feed


def masks(*, seeds, prompt, tokens, module=0, n=4, width=64):
    x = torch.ones(len(seeds), n, prompt + tokens, width)
    return Dropout(p=P, seeds=seeds, prompt=prompt, longest=10, tokens=200)(x, module)


def test_a_mask_keeps_its_share_and_scales_it():
    kept = masks(seeds=(1,), prompt=10, tokens=200)
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / (1 - P)])
    assert (kept == 0).float().mean().item() == pytest.approx(P, abs=0.01)


def test_an_adapter_sees_what_its_mask_leaves_and_the_base_sees_all():
    torch.manual_seed(0)
    packed = pack(nn.Sequential(OrderedDict(q_proj=nn.Linear(6, 5))), ["q_proj"], slots=2, r_max=3)
    module = packed.modules["q_proj"]
    for k in range(2):
        module.set_slot(k, torch.randn(3, 6), torch.randn(5, 3), 0.5)
    x = torch.randn(4, 7, 6)
    dropout = Dropout(p=P, seeds=(1, 2), prompt=3, longest=3, tokens=4)
    with packed.dropping(dropout):
        y = packed.model(x)
    left = dropout(x.unflatten(0, (2, 2)), 0)
    for k in range(2):
        A, B = module.slot(k, 3)
        expected = module.base(x[2 * k : 2 * k + 2]) + 0.5 * left[k] @ A.mT @ B.mT
        torch.testing.assert_close(y[2 * k : 2 * k + 2], expected)
    torch.testing.assert_close(packed.model(x), module(x))
    assert not y.equal(packed.model(x))


def test_a_mask_is_of_its_seed_and_module_and_not_of_its_neighbours():
    alone, beside = masks(seeds=(7,), prompt=5, tokens=9), masks(seeds=(3, 7), prompt=5, tokens=9)
    assert alone[0].equal(beside[1]) and not alone[0].equal(beside[0])
    assert not alone.equal(masks(seeds=(7,), prompt=5, tokens=9, module=1))
    assert dropout_seeds([(0, 0)], 0) != dropout_seeds([(0, 1)], 0) != dropout_seeds([(0, 0)], 1)


def test_a_mask_does_not_move_with_padding():
    """A neighbour pads a trial's prompts on the left, its completions on the right; the rest is dropped as before."""
    short, long = masks(seeds=(7,), prompt=5, tokens=9), masks(seeds=(7,), prompt=8, tokens=12)
    assert short.equal(long[:, :, 3:-3])


@pytest.mark.parametrize("neighbour", [0, 2, 3, 4])
def test_a_trial_in_a_pack_is_the_one_that_it_is_alone(make, tiny, neighbour):
    """Neighbours differ in how many of their groups have a signal: what makes up numbers moves no mask."""
    alone = trained(make, tiny, dropping(1, r=4))
    both = dropping(0, r=64, seed=neighbour), dropping(1, r=4)
    packed = trained(make, tiny, *both, *(dropping(number) for number in (2, 3)), slots=4)  # in halves of two
    assert [m.grad_norm for m in packed.of(1)] == pytest.approx([m.grad_norm for m in alone.of(1)], rel=1e-3)
    assert packed.of(1)[0].loss == pytest.approx(alone.of(1)[0].loss, abs=1e-5)


def test_seed_and_step_decide_and_rollouts_are_of_the_whole_adapter(make, tiny):
    dropped, again = trained(make, tiny, dropping(0)), trained(make, tiny, dropping(0))
    plain, other = trained(make, tiny, spec(0), p=0.0), trained(make, tiny, dropping(0, seed=3))
    assert [m.grad_norm for m in dropped.of(0)] == [m.grad_norm for m in again.of(0)]
    assert dropped.of(0)[0].reward == plain.of(0)[0].reward
    assert dropped.of(0)[0].grad_norm != pytest.approx(plain.of(0)[0].grad_norm, rel=1e-3)
    assert other.of(0)[0].grad_norm != pytest.approx(dropped.of(0)[0].grad_norm, rel=1e-3)


def test_gradient_checkpointing_drops_the_same_when_it_runs_a_pass_again(make, tiny):
    stored = trained(make, tiny, dropping(0))
    again = trained(make, tiny, dropping(0), settings={"gradient_checkpointing": "standard"})
    assert [m.grad_norm for m in again.of(0)] == pytest.approx([m.grad_norm for m in stored.of(0)], rel=1e-3)


def test_micro_batches_are_dropped_from_apart(make, tiny):
    whole, halves = trained(make, tiny, dropping(0)), trained(make, tiny, dropping(0), micro_batch_size=16)
    assert whole.of(0)[0].reward == halves.of(0)[0].reward
    assert whole.of(0)[0].grad_norm != pytest.approx(halves.of(0)[0].grad_norm, rel=1e-4)
