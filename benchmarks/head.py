"""A packed step over a large vocabulary: logits of a part of the tokens at a time, beside all of them at once.

    python -m benchmarks.head [--completions 4] [--tokens 512] [--repeats 3]

A random model of SmolLM2-135M's shape (30 layers of 576, a vocabulary of 49,152) in float32 and a pack of two trials of
rank 8, a group of completions each, without an engine. Each way has a process of its own, which tells the seconds of a
step, medians, and the most memory that it held beside the same process before its first step.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from typing import Any

from benchmarks.process import in_a_process

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

SLOTS, PROMPT = 2, 32
SHAPE = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 2048, "tie_word_embeddings": True,
}  # fmt: skip


def main() -> None:
    """Measures both ways and prints a line for each, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--completions", type=int, default=4, help="of each trial")
    parser.add_argument("--tokens", type=int, default=512, help="of each completion")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--serve", choices=("in_parts", "at_once"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        print(json.dumps(measure(given.serve, given.completions, given.tokens, given.repeats)))
        return
    sizes = [f"--{name}={getattr(given, name)}" for name in ("completions", "tokens", "repeats")]
    found = {way: in_a_process(__spec__.name, "--serve", way, *sizes) for way in ("at_once", "in_parts")}
    print(f"a step of {SLOTS} trials, {given.completions} completions of {given.tokens} tokens each")
    for way, figures in found.items():
        print(f"{way:>9}: {figures['seconds']:6.1f} s, {figures['bytes'] / 2**20:8,.0f} MiB")
    print(json.dumps(found))


def measure(way: str, completions: int, tokens: int, repeats: int) -> dict[str, float]:
    """One way: seconds a step, and bytes that the steps have added to the most that the process held."""
    from objectives.learners.packed.head import Head
    from objectives.settings.pack import LOGITS_AT_ONCE

    stepper = _stepper(completions, tokens)
    at_once = LOGITS_AT_ONCE if way == "in_parts" else SLOTS * completions * tokens * SHAPE["vocab_size"]
    stepper._head = Head(stepper.pack, at_once=at_once)
    before, seconds = _most_held(), []
    for _ in range(repeats):
        batch = random_batch(SHAPE["vocab_size"], prompt=PROMPT, slots=SLOTS, completions=completions, tokens=tokens)
        began = time.perf_counter()
        stepper.step(range(SLOTS), batch)
        seconds.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds), "bytes": _most_held() - before}


def _most_held() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _stepper(completions: int, tokens: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from objectives.learners.packed.grpo import Objective
    from objectives.learners.packed.linear import pack
    from objectives.learners.packed.optimizer import PackedAdamW
    from objectives.learners.packed.slots import SlotAdapter
    from objectives.learners.packed.step import Stepper
    from objectives.lora import TARGET_MODULES, LoraSpec

    torch.manual_seed(0)
    packed = pack(LlamaForCausalLM(LlamaConfig(**SHAPE)).train(), TARGET_MODULES, slots=SLOTS, r_max=8)
    optimizer = PackedAdamW(packed.weights, packed.gradients)
    for k in range(SLOTS):
        SlotAdapter(packed, k, LoraSpec(r=8, alpha=16), seed=k)
        optimizer.reset(k, 1e-4)
    objective = Objective(loss_type="dapo", group_size=completions, max_completion_tokens=tokens)
    return Stepper(packed, optimizer, objective, max_grad_norm=1.0)


def random_batch(vocabulary: int, *, prompt: int, slots: int, completions: int, tokens: int) -> Any:
    """A group of random completions for each of some trials, none of which ends early.

    Args:
        vocabulary: What tokens are drawn from.
        prompt: Tokens of each trial's prompt.
        slots: Trials.
        completions: Of each.
        tokens: Of each completion.
    """
    import torch

    from objectives.learners.packed.batch import Batch

    shape, generator = (slots, completions, tokens), torch.Generator().manual_seed(0)
    prompts = torch.randint(vocabulary, (slots, 1, prompt), generator=generator)
    return Batch(
        prompts=prompts,
        prompt_mask=torch.ones_like(prompts),
        completions=torch.randint(vocabulary, shape, generator=generator),
        completion_mask=torch.ones(shape, dtype=torch.long),
        signal=torch.ones(shape[:2]),
        advantages=torch.linspace(-1, 1, completions).expand(slots, -1),
        sampled=completions,
        tokens=torch.full((slots,), completions * tokens),
    )


if __name__ == "__main__":
    main()
