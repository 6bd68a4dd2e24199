"""The output layer on a part of the tokens at a time: the same numbers and gradients, with less memory."""

import pytest
import torch

from objectives.learners.packed.grpo import logprobs
from objectives.learners.packed.head import Head
from objectives.learners.packed.linear import pack
from objectives.lora import TARGET_MODULES
from tests.support.packed import FAMILIES, VOCABULARY, lora, make_pack, random_model


def filled_pack(family="Llama"):
    packed, _ = make_pack([lora(4), lora(2)], r_max=4, base=random_model(family, torch.float64))
    for k, r in ((0, 4), (1, 2)):
        for module in packed.modules.values():
            A, B = module.slot(k, r)
            A.normal_(std=0.1), B.normal_(std=0.1)
    return packed


def learned(packed, logps, entropy):
    """Log-probabilities, entropies, and gradients of the adapters, from entropies too where those have any."""
    weights = torch.linspace(1, 2, logps.numel(), dtype=logps.dtype).view_as(logps)
    (weights * (logps + 2 * entropy)).sum().backward()
    packed.collect_gradients()
    return logps.detach(), entropy.detach(), packed.gradients.clone()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("some", [1, 3, 5])
@pytest.mark.parametrize("teach", [False, True])
def test_in_parts_everything_is_what_it_is_as_a_whole(family, some, teach):
    packed = filled_pack(family)
    tokens = torch.randint(2, VOCABULARY, (4, 6), generator=torch.Generator().manual_seed(0))
    head = Head(packed, at_once=some * VOCABULARY)
    with head.aside():
        given = packed.model(tokens, use_cache=False).logits
    in_parts = learned(packed, *head.logprobs(given, tokens, 0.7, teach=teach))
    logits = packed.model(tokens, use_cache=False).logits
    as_a_whole = learned(packed, *logprobs(logits, tokens, 0.7, teach=teach))
    for found, whole in zip(in_parts, as_a_whole, strict=True):
        torch.testing.assert_close(found, whole, rtol=0, atol=1e-10)
    assert packed.gradients.abs().max() > 1e-3


def kept(compute):
    """Numbers that a forward pass keeps for its backward pass, in tensors as wide as the vocabulary."""
    found = {}

    def keep(tensor):
        if tensor.shape[-1:] == (VOCABULARY,) and tensor.ndim > 1:
            found[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        compute()
    return sum(found.values())


def test_no_logits_are_kept_for_the_backward_pass():
    packed = filled_pack()
    tokens = torch.randint(2, VOCABULARY, (4, 6), generator=torch.Generator().manual_seed(0))
    many, few = Head(packed), Head(packed, at_once=3 * VOCABULARY)

    def forward(head):
        with head.aside():
            given = packed.model(tokens, use_cache=False).logits
        return head.logprobs(given, tokens, 1.0)

    assert kept(lambda: forward(many)) >= tokens.numel() * VOCABULARY
    assert kept(lambda: forward(few)) == 0


@pytest.mark.parametrize(("family", "aside"), [("Gemma2", False), ("Llama", True)])
def test_a_head_whose_output_is_capped_stays_where_it_is(family, aside):
    packed = filled_pack(family)
    head = packed.model.get_output_embeddings()
    with Head(packed).aside():
        assert (packed.model.get_output_embeddings() is not head) == aside
    assert packed.model.get_output_embeddings() is head


def test_a_head_with_an_adapter_takes_whole_batches():
    packed = pack(random_model(), [*TARGET_MODULES, "lm_head"], slots=2, r_max=4)
    head = packed.model.get_output_embeddings()
    with Head(packed, at_once=1).aside():
        assert packed.model.get_output_embeddings() is head
