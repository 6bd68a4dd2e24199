"""The parts of the GPU benchmark that a CPU can run."""

import pytest

from benchmarks.gpu import adapter_in_engine, live_adapter_bytes
from objectives.engines.adapter_files import AdapterFolder
from objectives.engines.protocol import Sampling
from objectives.lora import LoraSpec
from objectives.memory.config_files import find_config
from objectives.memory.exact import engine_memory
from objectives.memory.shape import read_shape


def test_the_bytes_it_reads_off_a_live_engine_are_those_planned(vllm_engine, tiny):
    [actual] = vllm_engine._llm.apply_model(live_adapter_bytes)
    shape = read_shape(find_config(tiny.path))
    planned = engine_memory(shape, max_lora_rank=64, max_loras=4, dtype="float32", target_modules=tiny.target_modules)
    assert actual == planned.bytes > 0


@pytest.mark.parametrize(("r", "alpha"), [(8, 16), (64, 32), (1, 2)])
def test_rank_and_alpha_it_reads_off_a_live_engine_are_those_published(vllm_engine, peft_policy, tmp_path, r, alpha):
    model = peft_policy.build(LoraSpec(r=r, alpha=alpha), seed=0)
    version = AdapterFolder(tmp_path).publish("test", model, r)
    peft_policy.release()
    vllm_engine.rollout([[3, 4, 5]], [version], Sampling(temperature=0.0, max_tokens=2), [0])
    assert vllm_engine._llm.collective_rpc(adapter_in_engine, args=(version.id,)) == [(r, alpha)]
