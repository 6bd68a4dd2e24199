"""What every policy must do: wrap, be checked, train its adapter alone, and leave the base as it was."""

import importlib

import pytest
import torch
from peft import PeftModelForCausalLM

from objectives.errors import PolicyError
from objectives.lora import TARGET_MODULES, LoraSpec
from objectives.policies.protocol import check_adapter, check_targets


@pytest.fixture(params=["unsloth_policy", "peft_policy"])
def policy(request):
    chosen = request.getfixturevalue(request.param)
    yield chosen
    chosen.release()


def base_weights(policy):
    return {name: weight.detach().clone() for name, weight in policy._base.state_dict().items()}


@pytest.mark.parametrize(("r", "alpha", "use_rslora"), [(1, 32, False), (64, 16, False), (16, 64, True)])
def test_the_wrapped_model_has_the_rank_and_scaling_asked_for(policy, r, alpha, use_rslora):
    lora = LoraSpec(r=r, alpha=alpha, use_rslora=use_rslora)
    model = policy.build(lora, seed=0)
    assert isinstance(model, PeftModelForCausalLM)
    config = model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout, config.bias) == (r, alpha, 0, "none")
    assert set(config.target_modules) == set(TARGET_MODULES)
    check_adapter(model, lora)
    with pytest.raises(PolicyError, match=f"has r={r}.*asked for r={r + 1}"):
        check_adapter(model, LoraSpec(r=r + 1, alpha=alpha))


def test_ranks_in_turn_on_one_base_leave_it_bit_identical(policy):
    before = base_weights(policy)
    prompt = torch.tensor([[3, 4, 5, 6, 7]])
    expected = policy._base(prompt).logits
    for r in (4, 64, 1):
        model = policy.build(LoraSpec(r=r, alpha=16), seed=r)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        model(prompt, labels=prompt).loss.backward()
        optimizer.step()
        policy.release()
    after = base_weights(policy)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(policy._base(prompt).logits, expected)


def test_gradients_reach_the_adapter_and_nothing_else(policy):
    model = policy.build(LoraSpec(r=4, alpha=16), seed=0)
    ids = torch.tensor([[3, 4, 5, 6, 7]])
    model(ids, labels=ids).loss.backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert with_gradient
    assert all("lora_B" in name for name in with_gradient)
    assert all(p.requires_grad == ("lora_" in name) for name, p in model.named_parameters())


def test_a_seed_decides_the_adapter(policy):
    def adapter(seed):
        model = policy.build(LoraSpec(r=4, alpha=16), seed=seed)
        weights = torch.cat([p.detach().flatten() for name, p in model.named_parameters() if "lora_A" in name])
        policy.release()
        return weights

    assert torch.equal(adapter(1), adapter(1))
    assert not torch.equal(adapter(1), adapter(2))


def test_a_second_adapter_without_a_release_is_refused(policy):
    policy.build(LoraSpec(r=4, alpha=16), seed=0)
    with pytest.raises(PolicyError, match="release it first"):
        policy.build(LoraSpec(r=8, alpha=16), seed=0)


def test_unsloth_starts_an_adapter_from_the_tensors_that_peft_does(unsloth_policy, peft_policy):
    weights = []
    for policy in (unsloth_policy, peft_policy):
        model = policy.build(LoraSpec(r=4, alpha=16), seed=3)
        weights.append({n: p.detach().clone() for n, p in model.named_parameters() if "lora_" in n})
        policy.release()
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_base_in_4_bits_is_wrapped_and_trained_through_bitsandbytes(tiny, unsloth_policy):
    from bitsandbytes.nn import Linear4bit

    settings = tiny.model_copy(update={"load_in_4bit": True})
    policy = type(unsloth_policy)(settings, max_lora_rank=64, fast_inference=False)
    model = policy.build(LoraSpec(r=4, alpha=16), seed=0)
    assert any(isinstance(module, Linear4bit) for module in model.modules())
    ids = torch.tensor([[3, 4, 5, 6, 7]])
    model(ids, labels=ids).loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "lora_B" in n)


def test_a_base_in_4_bits_is_the_same_whoever_loads_it(tiny, unsloth_policy, peft_policy):
    from objectives.engines.transformers import TransformersEngine

    settings = tiny.model_copy(update={"load_in_4bit": True})
    theirs = type(unsloth_policy)(settings, max_lora_rank=64, fast_inference=False).base
    for ours in (type(peft_policy)(settings).base, TransformersEngine(settings, max_lora_rank=64)._base):
        pairs = [
            (module.weight, ours.get_submodule(name).weight)
            for name, module in theirs.named_modules()
            if type(module).__name__ == "Linear4bit"
        ]
        assert len(pairs) == 14
        for expected, weight in pairs:
            state, other = weight.quant_state, expected.quant_state
            assert (state.quant_type, state.nested, state.dtype) == ("nf4", True, torch.float32)
            assert torch.equal(weight, expected) and torch.equal(state.absmax, other.absmax)
        assert {m.compute_dtype for m in ours.modules() if type(m).__name__ == "Linear4bit"} == {torch.float32}


def test_a_model_that_is_not_there_is_a_policy_error(tiny, unsloth_policy, tmp_path):
    settings = tiny.model_copy(update={"name": str(tmp_path)})
    with pytest.raises(PolicyError, match="could not load"):
        type(unsloth_policy)(settings, max_lora_rank=64, fast_inference=False)


def test_a_target_module_that_the_model_lacks_is_named_with_those_that_it_has(peft_policy):
    check_targets(peft_policy.base, ["q_proj", "down_proj"])
    with pytest.raises(PolicyError, match=r"target module 'qkv_proj' is not in LlamaForCausalLM; allowed: down_proj, "):
        check_targets(peft_policy.base, ["q_proj", "qkv_proj"])


def test_a_wrapping_that_fails_half_way_leaves_the_base_as_it_was(policy, monkeypatch):
    library = importlib.import_module(f"objectives.policies.{policy.name}")
    target = library if policy.name == "peft" else library.FastLanguageModel
    wrap, before = target.get_peft_model, base_weights(policy)

    def fail(*given, **named):
        wrap(*given, **named)
        raise MemoryError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(target, "get_peft_model", staticmethod(fail))
        with pytest.raises(MemoryError):
            policy.build(LoraSpec(r=8, alpha=16), seed=0)
    policy.release()
    after = base_weights(policy)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    check_adapter(policy.build(LoraSpec(r=16, alpha=16), seed=0), LoraSpec(r=16, alpha=16))
