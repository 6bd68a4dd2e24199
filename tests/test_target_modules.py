"""Which modules get an adapter, trial by trial: in a pack that wraps them all, alone, and in the engine."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from objectives.learners.packed.linear import pack
from objectives.learners.packed.optimizer import PackedAdamW
from objectives.learners.packed.slots import SlotAdapter, initial_adapter
from objectives.lora import ATTENTION, FEED_FORWARD, TARGET_MODULES, LoraSpec, modules_of
from objectives.trial.messages import TrialSpec
from tests.support.packed import VOCABULARY, fill_B, lora, peft_model, random_model, take_from
from tests.support.packed_trials import STEPS, Feed, learners

SETS = {"attention": ATTENTION, "mlp": FEED_FORWARD, "all": TARGET_MODULES, "q_proj+v_proj": ("q_proj", "v_proj")}


def spec(number, target_set, *, r=8, learning_rate=2e-3):
    adapted = LoraSpec(r=r, alpha=32, target_modules=modules_of(target_set))
    return TrialSpec(
        number=number, lora=adapted, learning_rate=learning_rate, seed=number, score_after=(1, 2), target_set=target_set
    )


@pytest.fixture
def make(tiny, unsloth_policy, vllm_engine, tmp_path):
    return learners(model=tiny, policy=unsloth_policy, vllm_engine=vllm_engine, folder=tmp_path)


def kind(name):
    """The last part of a module's name."""
    return name.rsplit(".", 1)[-1]


@pytest.mark.parametrize(("name", "modules"), [*SETS.items(), ("v_proj+mlp", ("v_proj", *FEED_FORWARD))])
def test_a_set_stands_for_its_modules(name, modules):
    assert modules_of(name) == modules


def test_a_set_names_each_module_once_and_nothing_that_is_no_name():
    assert modules_of("q_proj+attention") == ATTENTION
    for wrong in ("", "q proj", "all+", "q_proj']; import os"):
        with pytest.raises(ValueError, match="names no modules; allowed: attention, mlp, all, or names of modules"):
            modules_of(wrong)


def test_a_slot_computes_what_peft_does_on_its_modules_and_nothing_elsewhere():
    base = random_model(dtype=torch.float64)
    loras = [lora(4, 8, target_modules=modules) for modules in SETS.values()]
    models = [fill_B(peft_model(base, each, seed=k), k).double() for k, each in enumerate(loras)]
    packed = pack(base, TARGET_MODULES, slots=len(loras), r_max=8)
    optimizer = PackedAdamW(packed.weights, packed.gradients, weight_decay=0.1)
    adapters = [SlotAdapter(packed, k, each, seed=k) for k, each in enumerate(loras)]
    ids = torch.randint(2, VOCABULARY, (2 * len(loras), 7), generator=torch.Generator().manual_seed(0))
    for k, (model, each) in enumerate(zip(models, loras, strict=True)):
        theirs = {name: p for name, p in model.named_parameters() if "lora_A" in name}
        start = initial_adapter(packed, 4, k, each.target_modules)
        assert {f"base_model.model.{name}.lora_A.default.weight" for name in start} == theirs.keys()
        for name, (A, _) in start.items():
            torch.testing.assert_close(A.double(), theirs[f"base_model.model.{name}.lora_A.default.weight"].detach())
        optimizer.reset(k, 1e-2)
    for k, (model, each) in enumerate(zip(models, loras, strict=True)):
        for name in adapters[k].factors():
            layer = model.base_model.model.get_submodule(name)
            factors = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            packed.modules[name].set_slot(k, *factors, each.scaling)
    logits = base(ids, use_cache=False).logits
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (logits * weight).sum().backward()
    packed.collect_gradients()
    for k, (model, each) in enumerate(zip(models, loras, strict=True)):
        own = slice(2 * k, 2 * k + 2)
        expected = model(ids[own], use_cache=False).logits
        (expected * weight[own]).sum().backward()
        torch.testing.assert_close(logits[own], expected, rtol=0, atol=1e-10)
        gradients = packed.factors(packed.gradients[k], 4)
        assert {kind(name) for name in adapters[k].factors()} == set(each.target_modules)
        for name, (A, B) in gradients.items():
            if kind(name) in each.target_modules:
                layer = model.base_model.model.get_submodule(name)
                torch.testing.assert_close(A, layer.lora_A["default"].weight.grad, rtol=1e-8, atol=1e-10)
                torch.testing.assert_close(B, layer.lora_B["default"].weight.grad, rtol=1e-8, atol=1e-10)
            else:
                assert not A.any() and not B.any()
    optimizer.step(range(len(loras)))
    for k, each in enumerate(loras):
        for name, (A, B) in packed.factors(packed.weights[k], 8).items():
            assert bool(A.any() and B.any()) == (kind(name) in each.target_modules)


@pytest.mark.parametrize("modules", SETS.values(), ids=SETS)
def test_a_saved_slot_holds_its_own_modules_alone(tmp_path, modules):
    from peft import PeftModel

    base, each = random_model(), lora(3, target_modules=modules)
    packed = pack(base, TARGET_MODULES, slots=2, r_max=8)
    SlotAdapter(packed, 1, lora(8), seed=7)
    take_from(packed, 1, fill_B(peft_model(random_model(), lora(8)), 1), 1.0)
    adapter = SlotAdapter(packed, 1, each, seed=0)  # after another that adapted all
    adapter.save_pretrained(str(tmp_path))
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert {name.split(".")[-3] for name in saved} == set(modules)
    assert set(json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]) == set(modules)
    loaded = PeftModel.from_pretrained(random_model(), str(tmp_path))
    assert adapter.parameters == sum(p.numel() for n, p in loaded.named_parameters() if "lora_" in n)
    assert not any(
        part.any() for name, module in packed.modules.items() if kind(name) not in modules for part in module.slot(1, 8)
    )


def test_packed_trials_of_several_sets_learn_what_TRL_alone_does(make):
    from objectives.learners.trl import TrlLearner

    specs = [spec(0, "attention"), spec(1, "mlp", r=4), spec(2, "all", r=16), spec(3, "q_proj+v_proj")]
    packed, alone = Feed(*specs), Feed(*specs)
    make(slots=4).serve(packed)
    make(TrlLearner).serve(alone)
    for number, each in enumerate(specs):
        ours, theirs = packed.of(number), alone.of(number)
        assert len(ours) == STEPS
        for name in ("reward", "reward_std", "groups_without_signal", "completion_length"):
            assert getattr(ours[0], name) == pytest.approx(getattr(theirs[0], name), rel=1e-4, abs=1e-5), name
        assert ours[0].loss == pytest.approx(theirs[0].loss, abs=1e-5)
        assert ours[0].grad_norm == pytest.approx(theirs[0].grad_norm, rel=1e-3)
        found, expected = packed.results[number], alone.results[number]
        assert found.scores[0].sampled == pytest.approx(expected.scores[0].sampled, abs=0.05)
        assert found.adapter_parameters == expected.adapter_parameters
        assert set(found.effective_ranks) == set(expected.effective_ranks) == set(each.lora.target_modules)
    norms = [packed.of(number)[0].grad_norm for number in range(4)]
    assert len({round(norm, 4) for norm in norms}) == 4


def test_a_packed_trial_is_the_same_beside_others_as_in_a_pack_of_its_own_modules(make, tiny):
    beside, alone = Feed(spec(0, "attention"), spec(1, "all"), spec(2, "mlp")), Feed(spec(0, "attention"))
    make(steps=2).serve(beside)
    make(steps=2, slots=1, model=tiny.model_copy(update={"target_modules": ATTENTION})).serve(alone)
    for ours, theirs in zip(beside.of(0), alone.of(0), strict=True):
        assert ours.reward == theirs.reward
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-3)


def test_the_engine_samples_from_the_modules_that_a_trial_trains_and_no_others(make, monkeypatch):
    """Adapters of all sets take turns in its slots: what it says of a token is what the trainer says before its step"""
    from objectives.learners.packed.step import Stepper

    remember, gaps = Stepper._remember, []

    def spied(self, batch, old, mask, part, sequences):
        remember(self, batch, old, mask, part, sequences)
        gaps.append(((old - batch.sampler_logprobs[:, part]) * mask).abs().max().item())

    monkeypatch.setattr(Stepper, "_remember", spied)
    names = ["all", "attention", "mlp", "q_proj+v_proj", "gate_proj", "all"]
    feed = Feed(*[spec(i, name, learning_rate=1e-2) for i, name in enumerate(names)])
    make(slots=2, importance_sampling_correction="token_truncate").serve(feed)
    assert len(gaps) == len(names) * STEPS
    assert max(gaps) < 1e-3


def test_a_trial_goes_on_from_its_own_sets_checkpoint(make, tmp_path):
    """Same rank, alpha, rate and seed, other modules: neither takes the other's for its own."""
    specs = [dataclasses.replace(spec(i, name), seed=0) for i, name in enumerate(("attention", "mlp"))]
    make(slots=2, steps=2, keep_checkpoints=True).serve(Feed(*specs))
    files = sorted((tmp_path / "logs" / "checkpoints").glob("*.safetensors"))
    assert len(files) == 2
    for path, name in zip(files, ("attention", "mlp"), strict=True):
        assert f"-{name}-" in path.name
        assert {kind(key.split(".A")[0].split(".B")[0]) for key in load_file(path)} == set(SETS[name])
    again = Feed(*specs)
    make(slots=2, steps=3, keep_checkpoints=True).serve(again)
    assert again.resumed_at == {0: 2, 1: 2}
