"""What every engine must do, on the shipped policy with real adapters."""

import pytest
import torch

from objectives.engines.adapter_files import AdapterFolder, AdapterVersion
from objectives.engines.protocol import Sampling
from objectives.errors import EngineError
from objectives.lora import LoraSpec
from objectives.tokenization.tokens import prompt_ids

PROMPTS = ["A:abcd>", "B:efgh>", "C:jiha>", "L:aabb>"] * 4
WARM = Sampling(temperature=1.0, max_tokens=6)
GREEDY = Sampling(temperature=0.0, max_tokens=6)


@pytest.fixture(params=["vllm_engine", "transformers_engine"])
def engine(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def ids(peft_policy):
    return [prompt_ids(peft_policy.tokenizer, prompt) for prompt in PROMPTS]


@pytest.fixture
def folder(tmp_path):
    return AdapterFolder(tmp_path / "adapters")


def noisy(policy, *, r, seed=0, scale=0.3):
    """A LoRA model whose adapter does something: B is zero at birth."""
    model = policy.build(LoraSpec(r=r, alpha=16), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(scale * torch.randn(weight.shape, generator=generator))
    return model


@pytest.fixture
def adapter(peft_policy, folder):
    """An adapter's version, and the model it was saved from."""
    model = noisy(peft_policy, r=8)
    yield folder.publish("test", model, 8), model
    peft_policy.release()


def logprobs_of(model, prompt, tokens, temperature):
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(tokens).unsqueeze(1)).squeeze(1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_the_tempered_policy_with_its_adapter(engine, adapter, ids, temperature):
    version, model = adapter
    sampling = Sampling(temperature=temperature, max_tokens=6, logprobs=True)
    for prompt, completion in zip(
        ids, engine.rollout(ids, [version] * len(ids), sampling, range(len(ids))), strict=True
    ):
        expected = logprobs_of(model, prompt, list(completion.token_ids), temperature)
        assert torch.tensor(completion.logprobs) == pytest.approx(expected, abs=1e-4)


def test_completions_end_at_the_end_of_sequence_or_at_the_limit(engine, ids, peft_policy):
    eos = peft_policy.tokenizer.eos_token_id
    for completion in engine.rollout(ids, [None] * len(ids), WARM, range(len(ids))):
        assert eos not in completion.token_ids[:-1]
        assert completion.token_ids[-1] == eos or len(completion.token_ids) == 6


def test_a_prompts_adapter_is_its_own(engine, adapter, ids):
    version, _ = adapter
    mixed = engine.rollout(ids, [version, None] * 8, GREEDY, range(16))
    adapted = engine.rollout(ids, [version] * 16, GREEDY, range(16))
    base = engine.rollout(ids, [None] * 16, GREEDY, range(16))
    assert [c.token_ids for c in mixed[::2]] == [c.token_ids for c in adapted[::2]]
    assert [c.token_ids for c in mixed[1::2]] == [c.token_ids for c in base[1::2]]
    assert [c.token_ids for c in adapted] != [c.token_ids for c in base]


def test_the_same_seeds_give_the_same_completions_and_others_give_others(engine, ids):
    first, again, other = (
        engine.rollout(ids, [None] * 16, WARM, seeds) for seeds in (range(16), range(16), range(16, 32))
    )
    assert first == again
    assert first != other


def test_new_weights_are_served_as_soon_as_they_are_published(engine, peft_policy, folder, ids):
    model = noisy(peft_policy, r=8)
    try:
        old = engine.rollout(ids, [folder.publish("test", model, 8)] * 16, GREEDY, range(16))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.zero_()
        new = engine.rollout(ids, [folder.publish("test", model, 8)] * 16, GREEDY, range(16))
    finally:
        peft_policy.release()
    assert [c.token_ids for c in new] == [c.token_ids for c in engine.rollout(ids, [None] * 16, GREEDY, range(16))]
    assert new != old


def test_an_adapter_above_the_ceiling_is_refused(engine, peft_policy, folder, ids):
    model = noisy(peft_policy, r=128)
    try:
        version = folder.publish("test", model, 128)
    finally:
        peft_policy.release()
    with pytest.raises(EngineError, match="128"):
        engine.rollout(ids[:1], [version], GREEDY, [0])


def test_an_adapter_that_is_not_there_is_an_engine_error(engine, ids, tmp_path):
    ghost = AdapterVersion(id=10**6, name="ghost", path=tmp_path / "ghost", r=8)
    with pytest.raises(EngineError):
        engine.rollout(ids[:1], [ghost], GREEDY, [0])


def test_a_failed_rollout_leaves_nothing_behind(engine, ids, tmp_path):
    ghost = AdapterVersion(id=10**6 + 1, name="ghost", path=tmp_path / "ghost", r=8)
    before = engine.rollout(ids, [None] * 16, GREEDY, range(16))
    with pytest.raises(EngineError):
        engine.rollout(ids, [ghost] * 16, GREEDY, range(16))
    assert engine.rollout(ids, [None] * 16, GREEDY, range(16)) == before
