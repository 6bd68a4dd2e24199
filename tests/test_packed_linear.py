"""Packed adapters against PEFT's: the same numbers out, the same gradients, the same start, the same folders."""

import copy

import pytest
import torch
from peft import PeftModel
from torch import nn

from objectives.errors import PolicyError
from objectives.learners.packed.linear import pack
from objectives.learners.packed.slots import SlotAdapter, initial_adapter
from objectives.lora import TARGET_MODULES
from tests.support.packed import (
    FAMILIES,
    VOCABULARY,
    differences,
    fill_B,
    lora,
    make_pack,
    padding,
    peft_model,
    random_model,
    take_from,
)

LORAS = (lora(1, 16), lora(4, 8), lora(8, 8, use_rslora=True))


def tokens(n, length=7, seed=0):
    return torch.randint(2, VOCABULARY, (n, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_slot_computes_what_peft_computes_with_its_adapter_alone(family):
    base = random_model(family)
    models = [fill_B(peft_model(base, each, seed=k), k) for k, each in enumerate(LORAS)]
    packed = pack(base, TARGET_MODULES, slots=len(LORAS), r_max=8)
    for k, (model, each) in enumerate(zip(models, LORAS, strict=True)):
        take_from(packed, k, model, each.scaling)
    ids = tokens(2 * len(LORAS))
    logits = base(ids, use_cache=False).logits
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    (logits * weight).sum().backward()
    for k, (model, each) in enumerate(zip(models, LORAS, strict=True)):
        own = slice(2 * k, 2 * k + 2)
        expected = model(ids[own], use_cache=False).logits
        (expected * weight[own]).sum().backward()
        torch.testing.assert_close(logits[own], expected, rtol=0, atol=1e-5)
        scale = max(p.grad.abs().max().item() for n, p in model.named_parameters() if "lora_" in n)
        assert differences(packed, k, model, each.r, of="grad") < 1e-5 * max(1.0, scale)


def test_a_base_in_4_bits_is_packed_like_any_other(tiny, unsloth_policy):
    from objectives.policies.peft import PeftPolicy

    policy = PeftPolicy(tiny.model_copy(update={"load_in_4bit": True}))
    each = lora(4)
    model = fill_B(policy.build(each, seed=3), 3)
    ids = tokens(3)
    expected = model(ids, use_cache=False).logits
    expected.sum().backward()
    adapter = copy.deepcopy({n: p for n, p in model.named_parameters() if "lora_" in n})
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if "lora_" in n}
    policy.release()
    packed = pack(policy._base, TARGET_MODULES, slots=1, r_max=8)
    initial = initial_adapter(packed, 4, seed=3)
    for name, module in packed.modules.items():
        A, B = (adapter[f"base_model.model.{name}.lora_{factor}.default.weight"] for factor in "AB")
        assert torch.equal(initial[name][0].to(A.dtype), A)
        module.set_slot(0, A, B, each.scaling)
    logits = policy._base(ids, use_cache=False).logits
    logits.sum().backward()
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    for name, module in packed.modules.items():
        theirs = gradients[f"base_model.model.{name}.lora_A.default.weight"]
        torch.testing.assert_close(module.lora_A.grad[0, :4], theirs, rtol=1e-4, atol=1e-4)


def test_under_autocast_adapters_compute_as_pefts_do_and_add_to_the_output_in_one_kernel(monkeypatch):
    base = random_model(dtype=torch.bfloat16)
    model = fill_B(peft_model(base, LORAS[2], seed=0), 0)
    packed = pack(base, TARGET_MODULES, slots=1, r_max=8)
    take_from(packed, 0, model, LORAS[2].scaling)
    formats, add = [], torch.baddbmm

    def watched(y, *factors):
        formats.append((y.dtype, *(factor.dtype for factor in factors)))
        return add(y, *factors)

    monkeypatch.setattr(torch, "baddbmm", watched)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, expected = (each(tokens(2), use_cache=False).logits for each in (base, model))
    # B stays in float32 until autocast rounds it, inside.
    assert formats == [(torch.bfloat16, torch.bfloat16, torch.float32)] * len(packed.modules)
    torch.testing.assert_close(logits, expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_an_adapter_starts_from_the_very_tensors_that_peft_starts_from(dtype):
    base = random_model("Qwen3", dtype)
    model = peft_model(base, lora(4), seed=7)
    packed = pack(base, TARGET_MODULES, slots=2, r_max=8)
    before = torch.get_rng_state()
    SlotAdapter(packed, 1, lora(4), seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    assert differences(packed, 1, model, 4) == 0
    assert padding(packed, 1, 4) == 0


@pytest.mark.parametrize("name", ["unsloth_policy", "peft_policy"])
def test_an_adapter_starts_from_the_very_tensors_that_a_policy_starts_from(name, request):
    policy = request.getfixturevalue(name)
    try:
        model = policy.build(lora(16), seed=5)
        expected = {n.replace(".default", ""): p.detach().clone() for n, p in model.named_parameters() if "lora_" in n}
    finally:
        policy.release()
    packed = pack(policy._base, TARGET_MODULES, slots=1, r_max=64)
    try:
        state = SlotAdapter(packed, 0, lora(16), seed=5).state_dict()
    finally:
        packed.unpack()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)


def test_padding_stays_zero_through_training():
    packed, optimizer = make_pack(LORAS, r_max=8)
    for step in range(5):
        packed.model(tokens(3, seed=step), use_cache=False).logits.square().mean().mul(100).backward()
        packed.collect_gradients()
        optimizer.step([0, 1, 2])
    assert packed.weights.abs().max() > 0.05
    assert padding(packed, 0, 1) == padding(packed, 1, 4) == 0


def test_unpacking_restores_the_base_to_the_bit():
    base = random_model()
    modules, weights = dict(base.named_modules()), {n: w.clone() for n, w in base.state_dict().items()}
    expected = base(tokens(2)).logits
    base.model.embed_tokens.weight.requires_grad_(False)
    packed, optimizer = make_pack([lora(4), lora(2)], r_max=4, base=base)
    assert [n for n, p in base.named_parameters() if p.requires_grad and "lora_" not in n] == []
    packed.weights.normal_()
    base(tokens(2), use_cache=False).logits.sum().backward()
    packed.collect_gradients()
    optimizer.step([0, 1])
    packed.unpack()
    assert {name: id(module) for name, module in base.named_modules()} == {n: id(m) for n, m in modules.items()}
    assert all(torch.equal(weights[name], weight) for name, weight in base.state_dict().items())
    assert torch.equal(base(tokens(2)).logits, expected)
    assert [n for n, p in base.named_parameters() if not p.requires_grad] == ["model.embed_tokens.weight"]


def test_adapters_can_be_switched_off_and_slots_chosen():
    base = random_model()
    expected = base(tokens(4)).logits
    packed, _ = make_pack([lora(4), lora(2), lora(1)], r_max=4, base=base)
    packed.weights.normal_(std=0.1)
    with packed.adapters_off():
        assert torch.equal(base(tokens(4)).logits, expected)
    ids = tokens(6)
    every = base(ids).logits
    with packed.selected([2, 0]):
        some = base(torch.cat([ids[4:6], ids[0:2]])).logits
    torch.testing.assert_close(some, torch.cat([every[4:6], every[0:2]]), rtol=0, atol=1e-5)
    assert (every[0:2] - expected[0:1]).abs().max() > 1e-3


def test_an_exported_slot_is_an_ordinary_peft_adapter(tmp_path):
    base = random_model()
    untouched = copy.deepcopy(base)
    packed, _ = make_pack([lora(4), lora(8)], r_max=8, base=base)
    adapter = SlotAdapter(packed, 1, lora(3, 8, use_rslora=True), seed=0)
    for module in packed.modules.values():
        A, _ = module.slot(1, 3)
        module.set_slot(
            1, A.clone(), torch.full((module.lora_B.shape[1], 3), 0.02), lora(3, 8, use_rslora=True).scaling
        )
    adapter.save_pretrained(str(tmp_path / "slot"), save_embedding_layers=False)
    loaded = PeftModel.from_pretrained(untouched, str(tmp_path / "slot"))
    assert loaded.peft_config["default"].r == 3
    assert adapter.parameters == sum(p.numel() for n, p in loaded.named_parameters() if "lora_" in n)
    with packed.selected([1]):
        ours = base(tokens(2), use_cache=False).logits
    torch.testing.assert_close(ours, loaded(tokens(2), use_cache=False).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("slots", [[0, 1, 2], [2, 0], [1]])
def test_chosen_slots_give_the_padded_product_and_its_gradients(slots):
    packed, _ = make_pack(LORAS, r_max=8, base=random_model(dtype=torch.float64))
    module = next(iter(packed.modules.values()))
    generator = torch.Generator().manual_seed(0)
    for k, each in enumerate(LORAS):
        A, B = module.slot(k, each.r)
        A.normal_(generator=generator), B.normal_(generator=generator)
    x = torch.randn(2 * len(slots), 3, A.shape[1], dtype=torch.float64, generator=generator, requires_grad=True)
    with packed.selected(slots):
        y = module(x)
    weight = torch.randn(y.shape, dtype=torch.float64, generator=generator)
    ours = torch.autograd.grad((y * weight).sum(), [x, module.lora_A, module.lora_B])
    A, B, s = (stack[slots] for stack in (module.lora_A, module.lora_B, module.scaling))
    h = torch.bmm(x.view(len(slots), -1, x.shape[-1]), A.mT) * s.view(-1, 1, 1)
    padded = module.base(x) + torch.bmm(h, B.mT).view(y.shape)
    torch.testing.assert_close(y, padded, rtol=0, atol=1e-12)
    theirs = torch.autograd.grad((padded * weight).sum(), [x, module.lora_A, module.lora_B])
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-11)


def test_what_a_pack_cannot_hold_is_refused():
    packed, _ = make_pack([lora(4)], r_max=4)
    with pytest.raises(PolicyError, match="r=5 exceeds the pack's ceiling of 4"):
        SlotAdapter(packed, 0, lora(5), seed=0)
    with pytest.raises(PolicyError, match="the pack wraps down_proj, gate_proj"):
        SlotAdapter(packed, 0, lora(4, target_modules=("q_proj", "lm_head")), seed=0)
    with pytest.raises(PolicyError, match="target_modules=w_pack match no module of LlamaForCausalLM"):
        pack(random_model(), ["q_proj", "w_pack"], slots=1, r_max=4)
    with pytest.raises(PolicyError, match=r"model\.norm is a LlamaRMSNorm"):
        pack(random_model(), ["norm"], slots=1, r_max=4)


def test_a_linear_with_a_bias_keeps_it():
    model = nn.Sequential()
    model.add_module("q_proj", nn.Linear(5, 3))
    x = torch.randn(4, 2, 5)
    expected = model(x)
    packed = pack(model, ["q_proj"], slots=2, r_max=2)
    torch.testing.assert_close(model(x), expected)
    packed.unpack()
