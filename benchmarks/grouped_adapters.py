"""Rollouts with adapters on a CPU: vLLM's own arithmetic against ours, which groups tokens by adapter.

    python -m benchmarks.grouped_adapters

Starts one engine after the other on the shipped policy, in processes of their own, and rolls out the same prompts.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.process import in_a_process

PROMPTS, REPEATS = 128, 7
ADAPTERS = (1, 8)
MAX_LORA_RANK = 64


def measure(kind: str) -> dict[str, float]:
    """Median seconds of a rollout, by number of adapters in it, in this process."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from objectives.engines import vllm

    if kind == "stock":
        vllm.use_grouped_adapters = lambda: None
    from objectives.engines.adapter_files import AdapterFolder
    from objectives.engines.protocol import Sampling
    from objectives.lora import LoraSpec
    from objectives.policies.peft import PeftPolicy
    from objectives.settings.sections import ModelSettings

    model = ModelSettings(
        name="shipped/tiny", max_lora_rank=MAX_LORA_RANK, dtype="float32", max_seq_length=64, gpu_memory_utilization=0.1
    )
    policy = PeftPolicy(model)
    engine = vllm.VllmEngine.start(model, max_lora_rank=MAX_LORA_RANK, max_loras=max(ADAPTERS), max_num_seqs=256)
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        adapted = policy.build(LoraSpec(r=MAX_LORA_RANK, alpha=32), seed=0)
        versions = [AdapterFolder(Path(folder)).publish(f"a{i}", adapted, MAX_LORA_RANK) for i in range(max(ADAPTERS))]
        prompt = policy.tokenizer("A:abcd>")["input_ids"]
        for n in ADAPTERS:
            used = [version for version in versions[:n] for _ in range(PROMPTS)]
            times = []
            for repeat in range(REPEATS + 1):
                start = time.perf_counter()
                engine.rollout([prompt] * len(used), used, Sampling(temperature=1.0, max_tokens=5), range(len(used)))
                times.append(time.perf_counter() - start)
                if repeat == 0:
                    times.clear()  # the first one warms up
            seconds[f"{n}_adapters_s"] = statistics.median(times)
    return seconds


def main() -> None:
    """Measures both kinds and prints a table, then one JSON object."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    results = {kind: in_a_process(__spec__.name, kind) for kind in ("stock", "grouped")}
    print(f"{PROMPTS} completions of 5 tokens an adapter, max_lora_rank {MAX_LORA_RANK}, median of {REPEATS}")
    for n in ADAPTERS:
        stock, grouped = (results[kind][f"{n}_adapters_s"] for kind in ("stock", "grouped"))
        print(f"{n:2d} adapters: stock {stock:.3f} s, grouped {grouped:.3f} s, {stock / grouped:.1f} times as fast")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
