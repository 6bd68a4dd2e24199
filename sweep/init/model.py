"""What they train, in a study's keys: the model, its adapter, the ladders around it, the lengths."""

from __future__ import annotations

import ast

from objectives.lora import TARGET_MODULES
from sweep.init.calls import Call, Recipe
from sweep.init.draft import KEYS, Draft
from sweep.init.ladders import alpha_ladder, rank_ladder, rate_ladder
from sweep.init.values import UnknownValueError, evaluate

CHECKPOINTING = {"unsloth": "unsloth", True: "standard", "True": "standard", False: "off", "False": "off"}


def draft_model(draft: Draft, recipe: Recipe) -> None:
    """The base model, and how it is loaded."""
    loader, trainer = recipe.loader, recipe.trainer
    name = draft.known(loader, "model_name")
    if name is None and "model" in trainer.arguments:
        given = trainer.get("model")
        name = given if isinstance(given, str) else None
    if name is None:
        draft.look_at.append("model.name: which model it is could not be read; put it in")
        name = "MODEL"
    where = loader.place if loader is not None and loader.place else "the trainer"
    draft.put("model", "name", str(name), where)
    draft.put("model", "device", "gpu", "as theirs")
    for key, argument in (("max_seq_length",) * 2, ("load_in_4bit",) * 2, ("gpu_memory_utilization",) * 2):
        value = draft.known(loader, argument)
        if value is not None:
            draft.put("model", key, value, where)
    for argument in ("load_in_8bit", "load_in_fp8", "full_finetuning"):
        if loader is not None and loader.get(argument):
            draft.unsaid.append(
                f"from_pretrained({argument}=True): the base is kept as model.load_in_4bit and model.dtype say"
            )
    if loader is None or "Fast" not in loader.name:
        draft.put("model", "policy", "peft", "they train without Unsloth")


def draft_adapter(draft: Draft, recipe: Recipe) -> None:
    """Rank, alpha and learning rate as ladders around theirs, under their ceiling."""
    adapter = recipe.adapter
    r = draft.known(adapter, "r")
    alpha = draft.known(adapter, "lora_alpha")
    rate = draft.known(recipe.config, "learning_rate")
    if r is None:
        r = 16
        draft.changed.append("they train no adapter of a rank that could be read: the ladder is around r = 16")
    wall = draft.known(recipe.loader, "max_lora_rank") or max(int(r), 8)
    where = adapter.place if adapter is not None else "a default"
    draft.put(
        "model",
        "max_lora_rank",
        max(int(wall), int(r)),
        "theirs" if recipe.loader and "max_lora_rank" in recipe.loader.arguments else "their r",
    )
    ranks = rank_ladder(int(r), max(int(wall), int(r)))
    draft.put("space", "r", ranks, f"around their r = {r} ({where})")
    for key, value, comment in alpha_ladder(
        int(r), alpha if alpha is None else int(alpha), ranks, max(int(wall), int(r)), where
    ):
        draft.put("space", key, value, comment)
    if draft.get("space", "alpha_above_ceiling"):
        draft.changed.append("lora_alpha goes above max_lora_rank, as theirs does; the engine only ever limits r")
    draft.put("space", "learning_rate", rate_ladder(float(rate or 5e-6)), f"around their {float(rate or 5e-6):g}")
    _adapter_details(draft, adapter)


def _adapter_details(draft: Draft, adapter: Call | None) -> None:
    modules = draft.known(adapter, "target_modules")
    if modules == "all-linear" or (isinstance(modules, list | tuple) and set(modules) == set(TARGET_MODULES)):
        modules = None
    if modules is not None:
        value = [modules] if isinstance(modules, str) else list(modules)
        draft.put("model", "target_modules", value, adapter.place if adapter else "")
    if draft.known(adapter, "use_rslora"):
        draft.put("space", "use_rslora", [True], "theirs")
    dropout = draft.known(adapter, "lora_dropout")
    if dropout:
        draft.put_if_known("model", "lora_dropout", dropout, f"get_peft_model(lora_dropout={dropout})")
    for argument in ("use_dora", "init_lora_weights", "modules_to_save", "loftq_config"):
        if adapter is not None and adapter.get(argument):
            draft.unsaid.append(f"get_peft_model({argument}=...): vLLM serves plain adapters")
    if adapter is not None and adapter.get("bias", "none") != "none":
        draft.unsaid.append(f"get_peft_model(bias={adapter.get('bias')!r}): vLLM serves adapters without biases")
    checkpointing = None if adapter is None else adapter.get("use_gradient_checkpointing")
    if checkpointing in CHECKPOINTING and CHECKPOINTING[checkpointing] != "unsloth":
        draft.put("model", "gradient_checkpointing", CHECKPOINTING[checkpointing], "theirs")


def draft_lengths(draft: Draft, recipe: Recipe) -> None:
    """Prompt, completion and whole, of which they give two, or one and the data's own lengths."""
    config = recipe.config
    whole = draft.get("model", "max_seq_length")
    completion = None if config is None else config.get("max_completion_length")
    prompt = None if config is None else config.get("max_prompt_length")
    if completion is None and config is not None and "max_completion_length" in config.arguments:
        text = ast.unparse(config.arguments["max_completion_length"])
        completion = (int(whole) * 3 // 4) if whole else 512
        draft.changed.append(
            f"task.max_completion_tokens = {completion}, three quarters of max_seq_length: theirs, {text}, depends on "
            "the data. `sweep plan` shows how long the prompts are"
        )
        comment = f"theirs depends on the data: {text}"
    else:
        completion, comment = completion or 256, "theirs" if completion else "TRL's default"
    draft.put("task", "max_completion_tokens", int(completion), comment)
    if prompt is not None and "max_prompt_tokens" in KEYS["task"]:
        draft.put("task", "max_prompt_tokens", int(prompt), "theirs; longer prompts are left out instead of cut")
        draft.changed.append("prompts longer than max_prompt_length are left out; TRL before 0.24 cut them")
    if whole is None:
        draft.put("model", "max_seq_length", int(completion) + int(prompt or 512), "prompt and completion")


def draft_template(draft: Draft, recipe: Recipe) -> None:
    """The chat template that they set on the tokenizer, as in `tokenizer.chat_template = ...`."""
    for i in range(len(recipe.before) - 1, -1, -1):
        match recipe.before[i].node:
            case ast.Assign(targets=[ast.Attribute(attr="chat_template")], value=value):
                try:
                    template = evaluate(value, recipe.before[:i])
                except UnknownValueError as error:
                    draft.look_at.append(f"task.chat_template: theirs, {error}, is known only when it runs; put it in")
                    return
                draft.put_if_known("task", "chat_template", template, "tokenizer.chat_template")
                return


def draft_task(draft: Draft, recipe: Recipe, rewards: dict[str, str], data: str) -> None:
    """Rows and rewards, by reference to the code that was carried over."""
    draft.put("task", "name", "dataset", "")
    draft.put("task", "data", data, "their training rows, prepared as they do")
    draft.put("task", "reward", rewards, "their reward functions")
    weights = draft.known(recipe.config, "reward_weights")
    if weights is not None:
        draft.put("task", "reward_weights", [float(weight) for weight in weights], "theirs")
