"""What they train, in a study's keys: the model, its adapter, the ladders around it, the lengths."""

from __future__ import annotations

import ast

from objectives.lora import TARGET_MODULES
from sweep.errors import UsageError
from sweep.init.calls import Call, spread
from sweep.init.defaults import ADAPTER, trainer_defaults
from sweep.init.draft import KEYS, Draft
from sweep.init.ladders import alpha_ladder, rank_ladder, rate_ladder
from sweep.init.recipe import Recipe
from sweep.init.values import UnknownValueError, evaluate

CHECKPOINTING = {"unsloth": "unsloth", "True": "standard", "False": "off"}
FORMATS = ("float32", "bfloat16", "float16")


def draft_model(draft: Draft, recipe: Recipe, model: str | None) -> None:
    """The base model, and how it is loaded.

    Raises:
        UsageError: where nothing says which model it is.
    """
    loader, trainer = recipe.loader, recipe.trainer
    name = draft.known(loader, "model_name")
    # The trainer's own word counts over a loader's, which may have loaded a judge.
    if "model" in trainer.arguments and (name is None or isinstance(trainer.get("model"), str)):
        given = trainer.get("model")
        name = given if isinstance(given, str) else name
    if model is not None:
        draft.put("model", "name", model, "--model")
    elif name is None:
        text = ast.unparse((loader or trainer).arguments.get("model_name" if loader else "model", ast.Constant(None)))
        raise UsageError(
            f"{recipe.source.path.name}: which model it trains is known only when it runs ({text}); give --model"
        )
    where = loader.place if loader is not None and loader.place else "the trainer"
    if model is None:
        draft.put("model", "name", str(name), where)
    draft.put("model", "device", "gpu", "as theirs")
    for key, argument in (("max_seq_length",) * 2, ("load_in_4bit",) * 2, ("gpu_memory_utilization",) * 2):
        value = draft.known(loader, argument)
        if value is not None:
            draft.put("model", key, value, where)
    if recipe.quantization is not None and recipe.quantization.get("load_in_4bit"):
        draft.put("model", "load_in_4bit", True, "their BitsAndBytesConfig")
    for call in (loader, recipe.quantization):
        for argument in ("load_in_8bit", "load_in_fp8", "full_finetuning"):
            if call is not None and call.get(argument):
                draft.unsaid.append(
                    f"{call.short_name}({argument}=True): the base is kept as model.load_in_4bit and model.dtype say"
                )
    _number_format(draft, recipe)
    if not recipe.unsloth:
        draft.put("model", "policy", "peft", "they train without Unsloth")


def _number_format(draft: Draft, recipe: Recipe) -> None:
    """The number format that the base is loaded in; a study's own choice where they name none."""
    arguments: dict[str, ast.expr] = {}
    for call in (recipe.loader, recipe.config):
        if call is not None:
            arguments |= spread(call.arguments.get("model_init_kwargs", ast.Dict([], [])), call.before)
            arguments |= call.arguments if call is recipe.loader else {}
    for argument in ("dtype", "torch_dtype"):
        if argument in arguments:
            try:
                value = str(evaluate(arguments[argument], recipe.before)).removeprefix("torch.")
            except UnknownValueError:
                continue
            if value in FORMATS:
                draft.put("model", "dtype", value, f"their {argument}")


def draft_adapter(draft: Draft, recipe: Recipe) -> None:
    """Rank, alpha and learning rate as ladders around theirs, under their ceiling."""
    adapter = recipe.adapter
    usual = {} if adapter is None else ADAPTER.get(adapter.short_name, {})
    r, alpha = (
        draft.known(adapter, key) or (None if adapter and key in adapter.arguments else usual.get(key))
        for key in ("r", "lora_alpha")
    )
    where = f"{adapter.short_name}, {adapter.place}" if adapter is not None else "a default"
    whose = "their r"
    if r is None:
        r, whose = 16, "a default"
        draft.changed.append("they train no adapter of a rank that could be read: the ladder is around r = 16")
    given = draft.known(recipe.loader, "max_lora_rank")
    r, wall = int(r), max(int(given or max(int(r), 8)), int(r))
    draft.put("model", "max_lora_rank", wall, "theirs" if given else whose if wall == r else f"{whose}, and 8 at least")
    ranks = rank_ladder(r, wall)
    draft.put("space", "r", ranks, f"around {'their ' if whose == 'their r' else ''}r = {r} ({where})")
    for key, value, comment in alpha_ladder(r, alpha if alpha is None else int(alpha), ranks, wall, where):
        draft.put("space", key, value, comment)
    if draft.get("space", "alpha_above_ceiling"):
        draft.changed.append("lora_alpha goes above max_lora_rank, as theirs does; the engine only ever limits r")
    rate = draft.known(recipe.config, "learning_rate")
    usual_rate = trainer_defaults({}, unsloth=recipe.unsloth)["learning_rate"]
    said = f"around their {float(rate):g}" if rate else f"around {usual_rate:g}, {_whose(recipe)} default"
    draft.put("space", "learning_rate", rate_ladder(float(rate or usual_rate)), said)
    _adapter_details(draft, adapter)


def _whose(recipe: Recipe) -> str:
    return "Unsloth's" if recipe.unsloth else "TRL's"


def _adapter_details(draft: Draft, adapter: Call | None) -> None:
    """Modules, dropout, and what a sweep has none of."""
    if adapter is not None and adapter.short_name == "LoraConfig" and "target_modules" not in adapter.arguments:
        draft.put("model", "target_modules", ["q_proj", "v_proj"], "theirs are PEFT's choice: these for most models")
        draft.look_at.append(
            "model.target_modules: they name none, and PEFT then chooses by the model's family; most get q_proj and "
            "v_proj, and so does the study"
        )
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
    beginning = None if adapter is None else adapter.get("init_lora_weights")
    if beginning in ("pissa", "olora"):
        draft.unsaid.append(
            f"get_peft_model(init_lora_weights={beginning!r}): model.init_lora_weights takes it, in float32, with "
            "model.policy = 'peft' and learner.name = 'trl'"
        )
    for argument in ("use_dora", "init_lora_weights", "modules_to_save", "loftq_config"):
        if argument == "init_lora_weights" and beginning in (True, "pissa", "olora"):
            continue
        if adapter is not None and adapter.get(argument):
            draft.unsaid.append(f"get_peft_model({argument}=...): vLLM serves plain adapters")
    if adapter is not None and adapter.get("bias", "none") != "none":
        draft.unsaid.append(f"get_peft_model(bias={adapter.get('bias')!r}): vLLM serves adapters without biases")
    checkpointing = None if adapter is None else adapter.get("use_gradient_checkpointing")
    # By its name: what they write may be a list, which is no key.
    named = CHECKPOINTING.get(str(checkpointing), "unsloth")
    if named != "unsloth":
        draft.put("model", "gradient_checkpointing", named, "theirs")


def draft_lengths(draft: Draft, recipe: Recipe) -> None:
    """Prompt, completion and whole, of which they give two, or one and the data's own lengths."""
    config = recipe.config
    whole = draft.get("model", "max_seq_length")
    completion = None if config is None else config.get("max_completion_length")
    prompt = None if config is None else config.get("max_prompt_length")
    if completion is None and config is not None and "max_completion_length" in config.arguments:
        text = ast.unparse(config.arguments["max_completion_length"])
        completion = (int(whole) * 3 // 4) if whole else 512
        taken = "three quarters of max_seq_length" if whole else "TRL's default"
        draft.changed.append(
            f"task.max_completion_tokens = {completion}, {taken}: theirs, {text}, is known only when it runs. `sweep "
            "plan` shows how long the prompts are"
        )
        comment = f"theirs is known only when it runs: {text}"
    else:
        usual = trainer_defaults({}, unsloth=recipe.unsloth)["max_completion_length"]
        completion, comment = completion or usual, "theirs" if completion else "TRL's default"
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
