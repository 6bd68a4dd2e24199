"""Prompts that are run once for their group: the same logits and gradients as running everything."""

import pytest
import torch

from objectives.errors import PolicyError
from objectives.learners.packed.prompt_cache import Sequences, completion_logits, plain_completion_logits
from tests.support.packed import FAMILIES, VOCABULARY, lora, make_pack, random_model


def sequences(prompt_lengths, completion_lengths, seed=0):
    """Prompts padded on the left, completions on the right, with the given numbers of tokens."""
    generator = torch.Generator().manual_seed(seed)
    longest, width = max(prompt_lengths), max(completion_lengths)
    left = torch.tensor([[0] * (longest - n) + [1] * n for n in prompt_lengths])
    right = torch.tensor([[1] * n + [0] * (width - n) for n in completion_lengths])
    return Sequences(
        prompts=torch.randint(2, VOCABULARY, left.shape, generator=generator) * left,
        prompt_mask=left,
        completions=torch.randint(2, VOCABULARY, right.shape, generator=generator) * right,
        completion_mask=right,
    )


def run(function, packed, batch, weight):
    packed.gradients.zero_()
    logits = function(packed.model, batch)
    (logits * batch.completion_mask.unsqueeze(-1) * weight).sum().backward()
    packed.collect_gradients()
    return logits.detach(), packed.gradients.clone()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [5, 1])
def test_prompts_run_once_give_the_logits_and_gradients_of_the_plain_computation(family, width):
    packed, _ = make_pack([lora(4), lora(2)], r_max=4, base=random_model(family))
    packed.weights.normal_(std=0.1)
    # Two slots of two prompts of three completions, all of different lengths; windows of 6 slide over the longest.
    batch = sequences([9, 4, 7, 2], [width, 3, 1, 2, width, 4, 1, 1, width, 2, 3, 4] if width > 1 else [1] * 12)
    weight = torch.randn(12, width, VOCABULARY, generator=torch.Generator().manual_seed(1))
    cached, cached_gradients = run(completion_logits, packed, batch, weight)
    plain, plain_gradients = run(plain_completion_logits, packed, batch, weight)
    keep = batch.completion_mask.bool()
    torch.testing.assert_close(cached[keep], plain[keep], rtol=0, atol=2e-5)
    scale = plain_gradients.abs().max().item()
    torch.testing.assert_close(cached_gradients, plain_gradients, rtol=0, atol=1e-5 * max(1.0, scale))
    assert (plain_gradients.abs().amax(dim=1) > 1e-3).all()


@pytest.mark.parametrize("function", [completion_logits, plain_completion_logits])
def test_a_prompt_does_not_see_how_long_its_neighbours_are(function):
    packed, _ = make_pack([lora(4)], r_max=4)
    packed.weights.normal_(std=0.1)
    batch = sequences([3, 8], [2, 1, 5, 4])
    alone = Sequences(
        prompts=batch.prompts[:1, 5:],
        prompt_mask=batch.prompt_mask[:1, 5:],
        completions=batch.completions[:2, :2],
        completion_mask=batch.completion_mask[:2, :2],
    )
    together, solo = function(packed.model, batch)[:2, :2], function(packed.model, alone)
    keep = alone.completion_mask.bool()
    torch.testing.assert_close(together[keep], solo[keep], rtol=0, atol=1e-5)


def test_a_cache_that_stays_empty_is_an_error_and_the_plain_computation_still_works():
    packed, _ = make_pack([lora(4)], r_max=4)
    packed.weights.normal_(std=0.1)
    batch = sequences([3, 5], [2, 1, 5, 4])
    weight = torch.ones(4, 5, VOCABULARY)
    expected = run(plain_completion_logits, packed, batch, weight)
    packed.model.gradient_checkpointing_enable({"use_reentrant": False})
    with pytest.raises(PolicyError, match="cache at 0 of 5 tokens; switch gradient checkpointing off"):
        completion_logits(packed.model, batch)
    found = run(plain_completion_logits, packed, batch, weight)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
