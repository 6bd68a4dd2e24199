"""Long prompts, in engines of their own: new weights under an old prompt, and more prompts than one pass takes."""

import pytest
import torch

from objectives.engines.adapter_files import AdapterFolder
from objectives.engines.protocol import Sampling
from objectives.lora import LoraSpec
from objectives.models.make_random import make_random_model
from objectives.settings.sections import ModelSettings

GREEDY = Sampling(temperature=0.0, max_tokens=8, logprobs=True)
WARM = Sampling(temperature=1.0, max_tokens=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ModelSettings(
        name=str(make_random_model(tmp_path_factory.mktemp("chat"))),
        max_lora_rank=8,
        dtype="float32",
        max_seq_length=512,
        gpu_memory_utilization=0.1,
        gradient_checkpointing="off",
    )


def start(model, max_num_seqs=8):
    from objectives.engines.vllm import VllmEngine

    return VllmEngine.start(model, max_lora_rank=8, max_num_seqs=max_num_seqs)


def test_a_long_prompt_gets_the_new_weights_as_a_fresh_engine_would(model, unsloth_policy, tmp_path):
    from objectives.policies.peft import PeftPolicy

    policy, folder = PeftPolicy(model), AdapterFolder(tmp_path)
    adapted = policy.build(LoraSpec(r=8, alpha=64), seed=0)
    engine = start(model)
    block = engine._llm.llm_engine.vllm_config.cache_config.block_size
    prompt = [5 + i % 250 for i in range(3 * block)]

    def weights(scale):
        torch.manual_seed(1)
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if "lora_B" in name:
                    weight.copy_(scale * torch.randn(weight.shape))
        return folder.publish("test", adapted, 8)

    def roll(chosen, version):
        [completion] = chosen.rollout([prompt], [version], GREEDY, [0])
        return completion

    old = roll(engine, weights(0.5))
    assert roll(engine, weights(0.5)) == old
    version = weights(-0.5)
    new = roll(engine, version)
    hits = engine._llm.llm_engine.vllm_config.cache_config.enable_prefix_caching
    engine.close()
    fresh = start(model)
    expected = roll(fresh, version)
    fresh.close()
    assert hits, "with the cache off, this test would show nothing"
    assert new.token_ids == expected.token_ids
    assert new.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    assert new != old


def test_a_prompt_that_a_pass_has_no_room_for_is_sampled_as_it_would_be_alone(model, unsloth_policy):
    engine = start(model, max_num_seqs=32)
    prompts = [[5 + (i * step) % 250 for i in range(500)] for step in range(1, 21)]
    together = engine.rollout(prompts, [None] * 20, WARM, range(20))
    [alone] = engine.rollout([prompts[16]], [None], WARM, [16])
    engine.close()
    assert 16 * 500 < model.batched_tokens < 17 * 500
    assert together[16].token_ids == alone.token_ids
