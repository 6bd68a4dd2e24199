"""How they train, in a study's keys: the objective, the optimizer, the batches."""

from __future__ import annotations

import ast
import re
from typing import Any

from sweep.init.calls import Call, Recipe
from sweep.init.draft import Draft

SAME_NAME = (
    "loss_type", "beta", "temperature", "epsilon", "epsilon_high", "delta", "num_iterations", "max_grad_norm",
    "lr_scheduler_type", "warmup_steps", "warmup_ratio", "weight_decay", "adam_beta1", "adam_beta2", "optim", "top_p",
    "top_k", "min_p", "repetition_penalty", "mask_truncated_completions", "importance_sampling_level",
)  # fmt: skip
"""Settings that GRPOConfig and a study's [learner] call alike, where a study has them."""
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop")
"""Of vLLM's SamplingParams."""
THEIR_DEFAULTS: dict[str, Any] = {"lr_scheduler_type": "linear"}
"""Defaults of TRL 1.13 that a study's differ from."""
OF_NO_EFFECT = {
    "lr_scheduler_kwargs",
    "bf16", "chat_template_kwargs", "dataloader_num_workers", "disable_tqdm", "eval_accumulation_steps", "eval_steps",
    "eval_strategy", "fp16", "fp16_full_eval", "generation_batch_size", "gradient_accumulation_steps",
    "gradient_checkpointing", "gradient_checkpointing_kwargs", "hub_model_id", "hub_strategy", "learning_rate",
    "log_completions", "logging_dir", "logging_first_step", "logging_steps", "max_completion_length",
    "max_prompt_length", "max_steps", "num_generations", "num_train_epochs", "output_dir", "overwrite_output_dir",
    "per_device_eval_batch_size", "per_device_train_batch_size", "push_to_hub", "remove_unused_columns", "report_to",
    "reward_weights", "run_name", "save_steps", "save_strategy", "save_total_limit", "scale_rewards", "seed",
    "steps_per_generation", "use_vllm", "vllm_gpu_memory_utilization", "vllm_mode", "vllm_sampling_params",
}  # fmt: skip
"""Arguments that change nothing about what is learned, or that are dealt with one by one."""
FALLBACK_STEPS = 250


def draft_learner(draft: Draft, recipe: Recipe) -> None:
    """Objective, optimizer and sampling, each where a study has a key for it."""
    config, sampling = recipe.config, recipe.sampling
    draft.put("learner", "name", "trl", "TRL's GRPOTrainer, as theirs")
    for argument in SAME_NAME:
        value = draft.known(config, argument)
        if value is None:
            value = THEIR_DEFAULTS.get(argument)
        if value is not None:
            draft.put_if_known("learner", argument, value, f"GRPOConfig({argument}={value!r})")
    _schedule(draft, config)
    for argument in SAMPLING:
        value = None if sampling is None else sampling.get(argument)
        if argument == "stop" and value is None and sampling is not None and "stop" in sampling.arguments:
            text = ast.unparse(sampling.arguments["stop"])
            if not re.search(r"eos_token", text):
                draft.unsaid.append(f"SamplingParams(stop={text})")
            continue
        if value is not None and not _is_neutral(argument, value):
            draft.put_if_known("learner", argument, value, f"SamplingParams({argument}={value!r})")
    scale = draft.known(config, "scale_rewards")
    if scale is not None:
        words = {True: "group", False: "none"}
        draft.put("learner", "scale_rewards", words.get(scale, scale), "theirs")
    if config is not None:
        for argument in config.arguments.keys() - OF_NO_EFFECT - set(SAME_NAME):
            value = config.get(argument)
            if value not in (None, False):
                draft.unsaid.append(f"GRPOConfig({argument}={value!r})")
        if config.get("chat_template_kwargs"):
            draft.put_if_known(
                "task", "chat_template_kwargs", config.get("chat_template_kwargs"), "chat_template_kwargs"
            )


def _schedule(draft: Draft, config: Call | None) -> None:
    """What their schedule says besides its name."""
    if draft.get("learner", "lr_scheduler_type") == "cosine_with_min_lr":
        given = draft.known(config, "lr_scheduler_kwargs") or {}
        if "min_lr_rate" in given:
            draft.put_if_known("learner", "min_lr_rate", given["min_lr_rate"], "lr_scheduler_kwargs")
        else:
            draft.values["learner"].pop("lr_scheduler_type")
            draft.unsaid.append(f"GRPOConfig(lr_scheduler_kwargs={given!r}): a study names a share, min_lr_rate")
    if draft.get("learner", "lr_scheduler_type") in ("constant", None):
        for key in ("warmup_steps", "warmup_ratio"):
            if draft.values["learner"].pop(key, None) is not None:
                draft.changed.append(f"{key} is left out: Transformers' constant schedule has no warm-up")


def _is_neutral(argument: str, value: Any) -> bool:
    return (argument, value) in {
        ("top_p", 1.0),
        ("top_k", -1),
        ("top_k", 0),
        ("min_p", 0.0),
        ("repetition_penalty", 1.0),
    }


def draft_budget(draft: Draft, recipe: Recipe) -> None:
    """Steps, prompts and groups, from batch size, accumulation and generations as TRL and Unsloth take them."""
    config = recipe.config
    steps = draft.known(config, "max_steps")
    if steps is None or int(steps) < 1:
        epochs = None if config is None else config.get("num_train_epochs")
        draft.changed.append(f"budget.steps = {FALLBACK_STEPS}: theirs is {'in epochs' if epochs else 'not given'}")
        draft.put("budget", "steps", FALLBACK_STEPS, "theirs is not given in steps")
    else:
        draft.put("budget", "steps", int(steps), "their max_steps")
    group = int(draft.known(config, "num_generations") or 8)
    batch = int(draft.known(config, "per_device_train_batch_size") or 8)
    accumulation = int(draft.known(config, "gradient_accumulation_steps") or 1)
    told = f"per_device_train_batch_size {batch} x gradient_accumulation_steps {accumulation} / num_generations {group}"
    if (batch * accumulation) % group:
        draft.changed.append(
            f"{told} is no whole number of prompts; Unsloth 2026.10 then takes num_generations for the batch size, and "
            "so does the study"
        )
        told, batch = f"num_generations for the batch size (as Unsloth does) x accumulation {accumulation}", group
    draft.put("budget", "prompts_per_step", max(1, batch * accumulation // group), told)
    draft.put("budget", "group_size", group, "their num_generations")
    if batch < batch * accumulation:
        draft.put("learner", "micro_batch_size", batch, "their per_device_train_batch_size")
