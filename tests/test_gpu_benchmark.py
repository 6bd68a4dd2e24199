"""The parts of the GPU benchmark that a CPU can run."""

from benchmarks.gpu import live_adapter_bytes
from objectives.memory import engine_memory
from objectives.model_configs import find_config
from objectives.model_shape import read_shape


def test_the_bytes_it_reads_off_a_live_engine_are_those_planned(vllm_engine, tiny):
    [actual] = vllm_engine._llm.apply_model(live_adapter_bytes)
    shape = read_shape(find_config(tiny.path))
    planned = engine_memory(shape, max_lora_rank=64, max_loras=4, dtype="float32", target_modules=tiny.target_modules)
    assert actual == planned.bytes > 0
