"""What their trainer goes by where they say nothing: TRL's defaults, or what Unsloth makes of them."""

from __future__ import annotations

from typing import Any

TRL: dict[str, Any] = {
    "learning_rate": 1e-6, "lr_scheduler_type": "linear", "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1, "num_generations": 8, "max_completion_length": 512,
}  # fmt: skip
"""Of TRL 1.13, where a study's differ."""
UNSLOTH: dict[str, Any] = TRL | {
    "learning_rate": 5e-5, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "weight_decay": 0.001,
    "optim": "adamw_8bit", "warmup_ratio": 0.1,
}  # fmt: skip
"""Of Unsloth 2026.10, which replaces some of them when it is imported."""
ADAPTER = {"LoraConfig": {"r": 8, "lora_alpha": 8}, "get_peft_model": {"r": 16, "lora_alpha": 16}}
"""Of PEFT 0.19, and of Unsloth's function."""


def trainer_defaults(given: dict[str, Any], *, unsloth: bool) -> dict[str, Any]:
    """What is not given comes to this, as far as a study's own defaults differ.

    Args:
        given: The arguments of GRPOConfig that are given, as far as they are known.
        unsloth: Whether Unsloth trains.
    """
    found = dict(UNSLOTH if unsloth else TRL)
    loss = given.get("loss_type")
    if loss == "cispo":
        # With TRL's default, a bound below 1, every token has the same weight.
        found |= {"epsilon_high": given.get("epsilon") or 0.2}
    if unsloth and loss == "dapo":
        found |= {"mask_truncated_completions": True, "epsilon_high": 0.28}
    if unsloth and loss == "dr_grpo":
        found |= {"scale_rewards": "none"}
    if unsloth and loss not in (None, "dapo", "dr_grpo"):
        found |= {"beta": 0.001}
    if "warmup_steps" in given:
        found.pop("warmup_ratio", None)
    return {key: value for key, value in found.items() if key not in given}
