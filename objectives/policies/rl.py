"""Wrapping a model with the RL adapter of `objectives.lora.configure_lora_for_rl`."""

from __future__ import annotations

from typing import Any

from objectives.lora import configure_lora_for_rl
from objectives.policies.protocol import Policy


def wrap_for_rl(policy: Policy, max_lora_rank: int, task_complexity: str = "high", *, seed: int = 0) -> Any:
    """Wraps a policy's base model, through whichever library the policy stands for.

    Args:
        policy: The base model. It must not have an adapter.
        max_lora_rank: The rank that the engine sets memory aside for.
        task_complexity: "high", or anything else for a task that is not.
        seed: Decides the adapter's first weights.

    Returns:
        A PeftModelForCausalLM, as of `Policy.build`. `policy.release()` takes the adapter off again.

    Raises:
        PolicyError: where the wrapped model's rank or scaling is not the one asked for.
        ValueError: where `max_lora_rank` is below 1.
    """
    return policy.build(configure_lora_for_rl(max_lora_rank, task_complexity), seed=seed)
