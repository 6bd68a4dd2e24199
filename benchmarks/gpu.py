"""What one GPU does: Unsloth's fast inference over adapters of different ranks, memory as planned, speed by ceiling.

    python -m benchmarks.gpu [--model NAME_OR_FOLDER] [--ceilings 8 16 32 64 128]

Needs one NVIDIA GPU and the extra `gpu`. Where no model is named, it makes a random one, so that no hub is needed. Each
ceiling is measured in a process of its own. Prints a table, then one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROMPTS, TOKENS, REPEATS = 128, 128, 5
RANKS = (8, 4, 16, 1)
"""Ranks that take turns on one engine, those above the ceiling left out."""


def live_adapter_bytes(model: Any) -> int:
    """Bytes of all adapter stacks in a live engine's model; storage that two tensors share counts once."""
    storages = {}
    for module in model.modules():
        for attribute in ("lora_a_stacked", "lora_b_stacked"):
            tensors = getattr(module, attribute, ())
            for tensor in tensors if isinstance(tensors, tuple) else (tensors,):
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(storages.values())


def adapter_in_engine(worker: Any, adapter_id: int) -> tuple[int, int]:
    """Rank and alpha of an adapter as the engine has loaded it; run in the engine's worker (vLLM 0.32)."""
    loaded = worker.model_runner.lora_manager._adapter_manager.get_adapter(adapter_id)
    # Merged projections are packed together and have no alpha of their own; the output projection is neither.
    weights = next(weights for name, weights in loaded.loras.items() if name.endswith("o_proj"))
    return int(weights.rank), int(weights.lora_alpha)


def measure(name: str, ceiling: int) -> dict[str, Any]:
    """Everything about one ceiling, in this process."""
    from objectives.policies.unsloth import UnslothPolicy  # noqa: I001 - Unsloth is imported before torch's friends

    import torch

    from objectives.engines.vllm import VllmEngine
    from objectives.settings.sections import ModelSettings

    settings = ModelSettings(name=name, max_lora_rank=ceiling, max_seq_length=1024, gpu_memory_utilization=0.5)
    policy = UnslothPolicy(settings, max_lora_rank=ceiling, fast_inference=True)
    llm = policy.engine
    if llm is None:
        sys.exit("Unsloth started no engine: fast_inference had no effect")
    engine = VllmEngine(llm, max_lora_rank=ceiling)
    with tempfile.TemporaryDirectory() as folder:
        turns = [_take_turn(policy, engine, r, Path(folder)) for r in RANKS if r <= ceiling]
    [actual] = llm.apply_model(live_adapter_bytes)
    return {
        "ceiling": ceiling,
        "planned_bytes": _planned_bytes(settings),
        "actual_bytes": actual,
        "peak_bytes": torch.cuda.max_memory_allocated(),
        "turns": turns,
        "device": torch.cuda.get_device_name(),
        "tokens_per_s": turns[0]["tokens_per_s"],
    }


def _take_turn(policy: Any, engine: Any, r: int, folder: Path) -> dict[str, Any]:
    """Wraps the base with an adapter of rank r, rolls out with it, and takes it off again."""
    import torch

    from objectives.engines.adapter_files import AdapterFolder
    from objectives.engines.protocol import Sampling
    from objectives.lora import LoraSpec

    model = policy.build(LoraSpec(r=r, alpha=2 * r), seed=r)
    with torch.no_grad():
        for parameter_name, weight in model.named_parameters():
            if "lora_B" in parameter_name:
                weight.normal_(std=0.02)
    version = AdapterFolder(folder).publish(f"turn-{r}", model, r)
    prompt = policy.tokenizer("Count from one to ten.")["input_ids"]
    sampling = Sampling(temperature=1.0, max_tokens=TOKENS)
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        completions = engine.rollout([prompt] * PROMPTS, [version] * PROMPTS, sampling, range(PROMPTS))
        seconds.append(time.perf_counter() - start)
    tokens = sum(len(completion.token_ids) for completion in completions)
    [(engine_r, engine_alpha)] = engine._llm.collective_rpc(adapter_in_engine, args=(version.id,))
    gap = _logprob_gap(model, prompt, completions[0])
    policy.release()
    return {
        "r": r,
        "engine_r": engine_r,
        "engine_alpha": engine_alpha,
        "tokens_per_s": tokens / statistics.median(seconds[1:]),
        "mean_logprob_gap": gap,
    }


def _logprob_gap(model: Any, prompt: list[int], completion: Any) -> float:
    """Mean absolute difference of engine and trainer on one completion: large where the engine serves other weights."""
    import torch

    tokens = list(completion.token_ids)
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *tokens]], device="cuda")).logits[0, len(prompt) - 1 : -1].float()
    ours = logits.log_softmax(-1).gather(1, torch.tensor(tokens, device="cuda").unsqueeze(1)).squeeze(1)
    return float((ours.cpu() - torch.tensor(completion.logprobs)).abs().mean())


def _planned_bytes(settings: Any) -> int:
    from objectives.memory.config_files import find_config
    from objectives.memory.exact import engine_memory
    from objectives.memory.shape import read_shape

    shape = read_shape(find_config(settings.path))
    # Unsloth's engine is not restricted to the target modules.
    return engine_memory(
        shape, max_lora_rank=settings.max_lora_rank, dtype=settings.number_format, target_modules=None
    ).bytes


def main() -> None:
    """Measures every ceiling in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub id or folder; default: a random model made on the spot")
    parser.add_argument("--ceilings", type=int, nargs="+", default=[8, 16, 32, 64, 128])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(measure(arguments.model, arguments.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model
        if model is None:
            make = [sys.executable, "-m", "objectives.models.make_random", folder, "--hidden", "2048", "--layers", "20"]
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
            model = folder
        results = [_in_own_process(model, ceiling) for ceiling in arguments.ceilings]
    print(f"{results[0]['device']}, {PROMPTS} completions of up to {TOKENS} tokens, median of {REPEATS}")
    print("ceiling   planned MiB    actual MiB   tokens/s   ranks in turn: largest log-probability gap")
    for row in results:
        planned, actual = row["planned_bytes"] / 2**20, row["actual_bytes"] / 2**20
        gap = max(turn["mean_logprob_gap"] for turn in row["turns"])
        print(f"{row['ceiling']:7d} {planned:13.2f} {actual:13.2f} {row['tokens_per_s']:10.0f}   {gap:.4f}")
    print(json.dumps({"device": results[0]["device"], "ceilings": results}))


def _in_own_process(model: str, ceiling: int) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, "--model", model, "--one", str(ceiling)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


if __name__ == "__main__":
    main()
