"""The grouped CPU adapter arithmetic against vLLM's own, number by number."""

import pytest
import torch
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from objectives.engines.grouped_lora import RANKS, GroupedPunicaWrapperCPU, group_rows

SLOTS, R, D_IN, SLICES = 3, 8, 12, (10, 6)


def wrapper(kind, tokens, is_prefill):
    """A wrapper told of a batch: one adapter id per token, 0 for none."""
    made = kind(max_num_batched_tokens=64, max_batches=16, device="cpu")
    mapping = LoRAMapping(index_mapping=tuple(tokens), prompt_mapping=tuple(tokens), is_prefill=is_prefill)
    made.update_metadata(mapping, [7, 8, 9], SLOTS, 96)
    return made


@pytest.fixture
def weights():
    torch.manual_seed(0)
    a = tuple(torch.randn(SLOTS, 1, R, D_IN) for _ in SLICES)
    b = tuple(torch.randn(SLOTS, 1, d_out, R) for d_out in SLICES)
    return a, b


@pytest.mark.parametrize("is_prefill", [True, False])
@pytest.mark.parametrize("tokens", [[7] * 6, [7, 7, 9, 9, 8], [9, 7, 9, 8, 7, 7], [9, 7, 9, 7, 9, 7, 9, 7]])
def test_linear_layers_come_out_as_they_do_stock(weights, tokens, is_prefill):
    a, b = weights
    x, start = torch.randn(len(tokens), D_IN), torch.randn(len(tokens), sum(SLICES))
    outputs = []
    for kind in (PunicaWrapperCPU, GroupedPunicaWrapperCPU):
        y = start.clone()
        wrapper(kind, tokens, is_prefill).add_lora_linear(y, x, a, b, 0.5, SLICES)
        outputs.append(y)
    assert torch.allclose(*outputs, atol=1e-5)
    assert not torch.allclose(outputs[0], start)


@pytest.mark.parametrize("tokens", [[7] * 4, [7, 9, 8]])
def test_logits_and_embeddings_come_out_as_they_do_stock(weights, tokens):
    (a, _), (b, _) = weights
    x, start = torch.randn(len(tokens), D_IN), torch.randn(len(tokens), SLICES[0])
    for call in (
        lambda made, y: made.add_lora_logits(y, x, a, b, 0.5),
        lambda made, y: made.add_lora_embedding(y, x[:, :R], b, add_inputs=True),
    ):
        outputs = []
        for kind in (PunicaWrapperCPU, GroupedPunicaWrapperCPU):
            y = start.clone()
            call(wrapper(kind, tokens, True), y)
            outputs.append(y)
        assert torch.allclose(*outputs, atol=1e-5)


def test_tokens_without_an_adapter_are_left_alone(weights):
    a, b = weights
    x = torch.randn(3, D_IN)
    y = torch.zeros(3, sum(SLICES))
    wrapper(GroupedPunicaWrapperCPU, [0, 8, 0], True).add_lora_linear(y, x, a, b, 1.0, SLICES)
    assert y[0].abs().sum() == y[2].abs().sum() == 0
    assert y[1].abs().sum() > 0


def test_rows_are_grouped_by_slot_and_one_slot_needs_no_index(monkeypatch):
    monkeypatch.setitem(RANKS, 8, 4)
    assert group_rows(torch.tensor([-1, -1])) == []
    [group] = group_rows(torch.tensor([2, 2, 2]))
    assert (group.slot, group.rows, group.r) == (2, slice(0, 3), None)
    side_by_side = group_rows(torch.tensor([1, 1, -1, 0]), [7, 8])
    assert [(group.slot, group.rows, group.r) for group in side_by_side] == [
        (1, slice(0, 2), 4),
        (0, slice(3, 4), None),
    ]
    scattered = group_rows(torch.tensor([1, 0, 1, 0, 1, 0, -1]))
    assert {group.slot: group.rows.tolist() for group in scattered} == {0: [1, 3, 5], 1: [0, 2, 4]}


def test_no_more_than_an_adapters_own_rank_is_multiplied(weights, monkeypatch):
    a, b = weights
    x, r, outputs = torch.randn(4, D_IN), 3, []
    for side in (a, b):
        for stack in side:
            stack[1].narrow(-2 if side is a else -1, r, R - r).zero_()  # the adapter with id 8, padded as vLLM pads
    for rank in (None, r):
        monkeypatch.setattr("objectives.engines.grouped_lora.RANKS", {} if rank is None else {8: rank})
        y = torch.zeros(4, sum(SLICES))
        made = wrapper(GroupedPunicaWrapperCPU, [8] * 4, True)
        assert made._token_groups[0].r == rank
        made.add_lora_linear(y, x, a, b, 0.5, SLICES)
        outputs.append(y)
    assert torch.allclose(*outputs, atol=1e-5) and outputs[0].abs().max() > 0


def test_the_running_engine_uses_it(vllm_engine):
    worker = vllm_engine._llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker
    manager = worker.model_runner.lora_manager._adapter_manager
    assert {type(made) for made in manager.punica_wrapper_mapping.values()} == {GroupedPunicaWrapperCPU}
