"""How they train, in a study's keys: the objective, the optimizer, the batches."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from typing import Any

from sweep.init.calls import Call, spread
from sweep.init.defaults import trainer_defaults
from sweep.init.draft import Draft
from sweep.init.recipe import Recipe

SAME_NAME = (
    "loss_type", "beta", "temperature", "epsilon", "epsilon_high", "delta", "num_iterations", "max_grad_norm",
    "lr_scheduler_type", "warmup_steps", "warmup_ratio", "weight_decay", "adam_beta1", "adam_beta2", "optim", "top_p",
    "top_k", "min_p", "repetition_penalty", "mask_truncated_completions", "importance_sampling_level",
    "entropy_coef",
)  # fmt: skip
"""Settings that GRPOConfig and a study's [learner] call alike, where a study has them."""
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop")
"""Of vLLM's SamplingParams."""
NEUTRAL: dict[str, tuple[float, ...]] = {
    "top_p": (1.0,),
    "top_k": (-1, 0),
    "min_p": (0.0,),
    "repetition_penalty": (1.0,),
}
"""Values of these that change nothing."""
OF_NO_EFFECT = re.compile(
    r"(adam_epsilon|auto_find|bf16|dataloader|ddp|deepspeed|disable_tqdm|do|ds3|eval|fp16|fsdp|full_determinism|"
    r"greater_is_better|hub|include|label_names|local_rank|log|logging|metric_for_best_model|num_completions|output_dir|"
    r"overwrite|project|push|remove_unused|report_to|run_name|save|seed|skip_memory|tf32|torch_compile|torch_empty|"
    r"trackio|use_cpu|use_liger|use_transformers|use_vllm|vllm|wandb|data_seed|cache_implementation|trust_remote)(_|$)"
)
"""How arguments begin that change nothing about what is learned."""
# These begin as some of those do, and matter all the same.
OF_EFFECT = re.compile(r"vllm_importance|adam_epsilon")
DEALT_WITH = {
    "chat_template_kwargs", "generation_batch_size", "generation_kwargs", "gradient_accumulation_steps",
    "gradient_checkpointing", "gradient_checkpointing_kwargs", "learning_rate", "lr_scheduler_kwargs",
    "max_completion_length", "max_prompt_length", "max_steps", "model_init_kwargs", "num_generations",
    "num_train_epochs", "per_device_eval_batch_size", "per_device_train_batch_size", "reward_weights", "scale_rewards",
    "steps_per_generation", "vllm_sampling_params",
}  # fmt: skip
"""Arguments that are dealt with one by one."""
GENERATION = {"do_sample", "pad_token_id", "eos_token_id", "bos_token_id", "use_cache"}
"""Generation arguments that a sweep sets itself."""
TRAINER = {
    "model", "args", "train_dataset", "eval_dataset", "processing_class", "tokenizer", "reward_funcs", "peft_config",
    "quantization_config", "reward_processing_classes", "compute_metrics",
}  # fmt: skip
"""Arguments of the trainer that a study says, or has no need of."""
BATCH = ("num_generations", "per_device_train_batch_size", "gradient_accumulation_steps")
FALLBACK_STEPS = 250


def draft_learner(draft: Draft, recipe: Recipe) -> None:
    """Objective, optimizer and sampling, each where a study has a key for it."""
    config = recipe.config
    given = {} if config is None else {argument: config.get(argument) for argument in config.arguments}
    defaults = trainer_defaults(given, unsloth=recipe.unsloth)
    whose = "Unsloth's default" if recipe.unsloth else "TRL's default"
    draft.put("learner", "name", "trl", "TRL's GRPOTrainer, as theirs")
    for argument in SAME_NAME:
        value = draft.known(config, argument)
        if value is not None:
            draft.put_if_known("learner", argument, value, f"GRPOConfig({argument}={value!r})")
        elif argument in defaults:
            draft.put("learner", argument, defaults[argument], whose)
    if draft.get("learner", "loss_type") == "cispo" and draft.values["learner"].pop("delta", None) is not None:
        draft.changed.append("delta is left out: TRL's cispo does not look at it")
    _schedule(draft, config)
    _sampling(draft, recipe)
    scale = draft.known(config, "scale_rewards")
    if "scale_rewards" in defaults or (recipe.unsloth and given.get("loss_type") == "dr_grpo" and scale is not None):
        draft.put("learner", "scale_rewards", "none", "Unsloth's for dr_grpo")
    elif scale is not None:
        named = {"True": "group", "False": "none"}.get(str(scale), scale)
        draft.put_if_known("learner", "scale_rewards", named, f"GRPOConfig(scale_rewards={scale!r})")
    _unsaid(draft, recipe)


def _sampling(draft: Draft, recipe: Recipe) -> None:
    """How they sample: vLLM's parameters, and those of Transformers' `generate`."""
    sampling, config = recipe.sampling, recipe.config
    for argument in SAMPLING:
        value = None if sampling is None else sampling.get(argument)
        if argument == "stop" and value is None and sampling is not None and "stop" in sampling.arguments:
            text = ast.unparse(sampling.arguments["stop"])
            if not re.search(r"eos_token", text):
                draft.unsaid.append(f"SamplingParams(stop={text})")
            continue
        if value is not None and not _is_neutral(argument, value):
            draft.put_if_known("learner", argument, _listed(argument, value), f"SamplingParams({argument}={value!r})")
    if config is None or "generation_kwargs" not in config.arguments:
        return
    inner = spread(config.arguments["generation_kwargs"], config.before)
    generation = replace(config, name="generation_kwargs", arguments=inner)
    for argument in inner.keys() - GENERATION:
        value = draft.known(generation, argument)
        key = "stop" if argument == "stop_strings" else argument
        if value is not None and key in SAMPLING:
            theirs = f"generation_kwargs({argument}={value!r})"
            draft.put_if_known("learner", key, _listed(key, value), theirs, "generation_kwargs")
        elif value is not None:
            draft.unsaid.append(f"generation_kwargs({argument}={value!r})")


def _unsaid(draft: Draft, recipe: Recipe) -> None:
    """What else they give that a study has no key for."""
    config = recipe.config
    if config is not None:
        for argument in sorted(config.arguments.keys() - DEALT_WITH - set(SAME_NAME)):
            value = config.get(argument)
            matters = OF_EFFECT.match(argument) or not OF_NO_EFFECT.match(argument)
            # By identity: 0 is equal to False, and is a value.
            if value is not None and value is not False and matters:
                draft.unsaid.append(f"GRPOConfig({argument}={value!r})")
        if config.get("chat_template_kwargs"):
            draft.put_if_known(
                "task", "chat_template_kwargs", config.get("chat_template_kwargs"), "chat_template_kwargs"
            )
    elif "args" in recipe.trainer.arguments:
        text = ast.unparse(recipe.trainer.arguments["args"])
        draft.look_at.append(f"how they train, args={text}, could not be read: the study says defaults; put in yours")
    for argument in sorted(recipe.trainer.arguments.keys() - TRAINER):
        text = ast.unparse(recipe.trainer.arguments[argument])
        if text not in ("None", "[]"):
            draft.unsaid.append(f"{recipe.trainer.name}({argument}={text}): a sweep has nothing like it")
    if recipe.trainer.name.rpartition(".")[2] != "GRPOTrainer":
        draft.look_at.append(
            f"they train with {recipe.trainer.name}, a trainer of its own kind; a sweep trains with TRL's GRPOTrainer"
        )


def _schedule(draft: Draft, config: Call | None) -> None:
    """What their schedule says besides its name."""
    if draft.get("learner", "lr_scheduler_type") == "cosine_with_min_lr":
        given = draft.known(config, "lr_scheduler_kwargs") or {}
        if "min_lr_rate" in given:
            draft.put_if_known("learner", "min_lr_rate", given["min_lr_rate"], "lr_scheduler_kwargs")
        else:
            # Without its floor, a study would refuse the schedule.
            draft.values["learner"].pop("lr_scheduler_type")
            draft.unsaid.append(f"GRPOConfig(lr_scheduler_kwargs={given!r}): a study names a share, min_lr_rate")
    if draft.get("learner", "warmup_steps") and draft.get("learner", "warmup_ratio"):
        draft.values["learner"].pop("warmup_ratio")  # as Transformers has it
    if draft.get("learner", "lr_scheduler_type") in ("constant", None):
        for key in ("warmup_steps", "warmup_ratio"):
            if draft.values["learner"].pop(key, None) is not None:
                draft.changed.append(f"{key} is left out: Transformers' constant schedule has no warm-up")


def _is_neutral(argument: str, value: Any) -> bool:
    """Whether a sampling parameter changes nothing."""
    # Compared, not hashed: a value may be a list.
    return value in NEUTRAL.get(argument, ())


def _listed(argument: str, value: Any) -> Any:
    """A stop string that stands alone, as the list that a study has of them; anything else as it is."""
    return [value] if argument == "stop" and isinstance(value, str) else value


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
    usual = trainer_defaults({}, unsloth=recipe.unsloth)
    known = {argument: draft.known(config, argument) for argument in BATCH}
    group, batch, accumulation = (int(known[argument] or usual[argument]) for argument in BATCH)
    whose = "Unsloth's" if recipe.unsloth else "TRL's"
    _, one, two = (f"{argument} {known[argument] or f'{usual[argument]} (default)'}" for argument in BATCH)
    told = f"{one} x {two} / num_generations {group}"
    _generation_batch(draft, config, batch=batch, accumulation=accumulation)
    if (batch * accumulation) % group:
        if recipe.unsloth:
            reason = "Unsloth 2026.10 then takes num_generations for the batch size, and so does the study"
            short = f"num_generations for the batch size (as Unsloth does) x accumulation {accumulation}"
        else:
            reason = "TRL takes that on several GPUs only; the study takes num_generations for the batch size"
            short = f"num_generations for the batch size x accumulation {accumulation}"
        draft.changed.append(f"{told} is no whole number of prompts; {reason}")
        told, batch = short, group
    draft.put("budget", "prompts_per_step", max(1, batch * accumulation // group), told)
    comment = "their num_generations" if known["num_generations"] else f"{whose} default"
    draft.put("budget", "group_size", group, comment)
    if batch < batch * accumulation:
        own = "their" if known["per_device_train_batch_size"] else whose
        draft.put("learner", "micro_batch_size", batch, f"{own} per_device_train_batch_size")


def _generation_batch(draft: Draft, config: Call | None, *, batch: int, accumulation: int) -> None:
    """Completions that are sampled at once, where these are more than one step's."""
    size = draft.known(config, "generation_batch_size")
    if size is None and (steps := draft.known(config, "steps_per_generation")):
        size = batch * int(steps)
    if size is not None and int(size) != batch * accumulation:
        draft.unsaid.append(
            f"they sample {size} completions at once and learn from {batch * accumulation} a step; a study samples for "
            "every step"
        )
