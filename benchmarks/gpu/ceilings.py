"""Under one ceiling: Unsloth's fast inference over adapters of different ranks, and adapter memory as planned."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.study.file import StudyFile

PROMPTS, TOKENS, REPEATS = 128, 128, 3
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


def measure(config: StudyFile, folder: Path) -> dict[str, Any]:
    """Loads Unsloth's policy with its engine under the study's ceiling, and lets adapters take turns on it.

    Raises:
        PolicyError: where Unsloth cannot load the model, or starts no engine.
    """
    from objectives.errors import PolicyError
    from objectives.trial.resources import load

    loaded, ceiling = load(config.worker_settings(folder)), config.engine_max_lora_rank
    policy, engine = loaded.policy, loaded.engine
    if policy.engine is None:
        raise PolicyError("Unsloth started no engine: fast_inference had no effect")
    turns = [take_turn(policy, engine, r, folder) for r in RANKS if r <= ceiling]
    [actual] = policy.engine.apply_model(live_adapter_bytes)
    return {
        "ceiling": ceiling,
        "planned_bytes": planned_bytes(config),
        "actual_bytes": actual,
        "tokens_per_s": turns[0]["tokens_per_s"],
        "turns": turns,
    }


def take_turn(
    policy: Any, engine: Any, r: int, folder: Path, *, prompts: int = PROMPTS, tokens: int = TOKENS
) -> dict[str, Any]:
    """Wraps the base with an adapter of rank r, rolls out with it, and takes it off again."""
    from objectives.engines.adapter_files import AdapterFolder
    from objectives.engines.protocol import Sampling

    model = wrapped(policy, r, seed=r)
    version = AdapterFolder(folder).publish(f"turn-{r}", model, r)
    prompt = policy.tokenizer("Count from one to ten.")["input_ids"]
    sampling = Sampling(temperature=1.0, max_tokens=tokens, logprobs=True)
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        completions = engine.rollout([prompt] * prompts, [version] * prompts, sampling, range(prompts))
        seconds.append(time.perf_counter() - start)
    sampled = sum(len(completion.token_ids) for completion in completions)
    [(engine_r, engine_alpha)] = engine._llm.collective_rpc(adapter_in_engine, args=(version.id,))
    gap = _logprob_gap(model, prompt, completions[0])
    policy.release()
    return {
        "r": r,
        "engine_r": engine_r,
        "engine_alpha": engine_alpha,
        "tokens_per_s": sampled / statistics.median(seconds[1:]),
        "mean_logprob_gap": gap,
    }


def wrapped(policy: Any, r: int, *, seed: int) -> Any:
    """The base with an adapter of rank r that does something: a new one's B is zero."""
    import torch

    from objectives.lora import LoraSpec

    model = policy.build(LoraSpec(r=r, alpha=2 * r), seed=seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02)
    return model


def _logprob_gap(model: Any, prompt: list[int], completion: Any) -> float:
    """Mean absolute difference of engine and trainer on one completion: large where the engine serves other weights."""
    import torch

    tokens = list(completion.token_ids)
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *tokens]], device=model.device)).logits[0, len(prompt) - 1 : -1].float()
    ours = logits.log_softmax(-1).gather(1, torch.tensor(tokens, device=model.device).unsqueeze(1)).squeeze(1)
    return float((ours.cpu() - torch.tensor(completion.logprobs)).abs().mean())


def planned_bytes(config: StudyFile) -> int:
    """What the planner says that Unsloth's engine sets aside: it is not restricted to the target modules."""
    from objectives.memory.config_files import find_config
    from objectives.memory.exact import engine_memory
    from objectives.memory.shape import read_shape

    return engine_memory(
        read_shape(find_config(config.model.path)),
        max_lora_rank=config.engine_max_lora_rank,
        dtype=config.model.number_format,
        target_modules=None,
    ).bytes
