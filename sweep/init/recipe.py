"""The calls in a source that say what is trained: model, adapter, configuration, trainer."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sweep.errors import UsageError
from sweep.init.calls import Call, call_of, calls_of, followed, last_call, spread, with_attributes
from sweep.init.source import Source, Statement
from sweep.init.values import UnknownValueError, evaluate

IMAGES = re.compile(r"""["']type["']\s*:\s*["']image|\[["']images?["']\]|process_vision_info""")
"""How chat messages and rows name a picture."""
ENVIRONMENTS = re.compile(r"^\s*(?:from|import)\s+(?:openenv|envs)\b", re.MULTILINE)
MODEL_CONFIG = {"lora_r": "r", "lora_target_modules": "target_modules"}
LOOPS = ("rollout_func", "environment_factory", "tools")
"""Arguments with which TRL's trainer talks to tools or an environment between tokens."""
LOADERS = r"(Fast\w*Model|Auto(Peft)?Model\w*)\.from_pretrained$"
ON_MODEL = ("to", "cuda", "half", "float", "bfloat16", "eval", "train")
"""Methods of a model that return it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a source trains. Only the trainer is always there."""

    source: Source
    trainer: Call
    config: Call | None
    loader: Call | None
    adapter: Call | None
    sampling: Call | None
    quantization: Call | None
    """How the base is quantized as it is loaded: a BitsAndBytesConfig."""
    earlier: tuple[str, ...]
    """Other trainers that run before, as `SFTTrainer`."""

    @property
    def unsloth(self) -> bool:
        """Whether Unsloth loads the model."""
        return self.loader is not None and "Fast" in self.loader.name

    @property
    def before(self) -> Sequence[Statement]:
        """The statements that run before the trainer is made."""
        return self.trainer.before


def find_recipe(source: Source) -> Recipe:
    """Finds the calls.

    Raises:
        UsageError: where the source trains nothing that can be swept; it says why.
    """
    name = source.path.name
    trainers = list(calls_of(source.statements, r"Trainer$"))
    grpo = [call for call in trainers if call.name.endswith("GRPOTrainer")]
    # A trainer in a function that is never called trains nothing, if there is another.
    grpo = [call for call in grpo if not call.outer] or grpo
    if not grpo:
        others = ", ".join(dict.fromkeys(call.name for call in trainers)) or "no trainer"
        unread = f" (not read: {'; '.join(source.unread)})" if source.unread else ""
        how = "a study of preference pairs is written by hand, after `tiny_preferences`" if "DPO" in others else ""
        raise UsageError(
            f"{name}: no GRPOTrainer is made there (found: {others}); {how or 'a sweep trains with GRPO'}{unread}"
        )
    trainer = grpo[-1]
    _refuse(source, trainer)
    before = trainer.before
    config = followed(trainer.arguments.get("args"), before, r"(GRPO|Training|Script)\w*(Config|Arguments)$")
    sampling = None
    if config is not None:
        config = with_attributes(config, trainer)
        sampling = followed(config.arguments.get("vllm_sampling_params"), config.before, r"SamplingParams$")
    loader = _loader(trainer.arguments.get("model"), before)
    return Recipe(
        source=source,
        trainer=trainer,
        config=config,
        loader=loader,
        # The surest sign first: what the trainer is given, then what wraps the model, then any that is left.
        adapter=followed(trainer.arguments.get("peft_config"), before, r"LoraConfig$")
        or last_call(before, r"get_peft_model$", having="r")
        or last_call(before, r"LoraConfig$")
        or last_call(before, r"Fast\w*Model\.get_peft_model$")
        or _model_config(before),
        sampling=sampling,
        quantization=_quantization(trainer, config, loader),
        earlier=tuple(
            dict.fromkeys(call.name for call in trainers if call.place != trainer.place and call not in grpo)
        ),
    )


def _refuse(source: Source, trainer: Call) -> None:
    """Refuses what a sweep cannot do.

    Raises:
        UsageError: with the reason.
    """
    name = source.path.name
    if IMAGES.search(source.text):
        raise UsageError(f"{name}: its prompts hold images; a sweep trains text policies only")
    loops = [argument for argument in LOOPS if argument in trainer.arguments]
    if loops or ENVIRONMENTS.search(source.text):
        found = f"{loops[0]} is given to the trainer" if loops else "it imports an OpenEnv environment"
        raise UsageError(f"{name}: {found}; a sweep samples one completion per prompt, with no tools or environment")
    if "reward_funcs" not in trainer.arguments:
        raise UsageError(f"{name}: {trainer.name} is given no reward_funcs, so it is not TRL's GRPOTrainer")
    if trainer.outer:
        raise UsageError(
            f"{name}: {trainer.name} is made within {trainer.outer}, which cannot be followed (a class, or a function "
            "that nothing calls); make it at the top level, or in a function that is called there"
        )


def _quantization(trainer: Call, config: Call | None, loader: Call | None) -> Call | None:
    """The BitsAndBytesConfig that the model is loaded with, wherever it is said."""
    for call in (trainer, config, loader):
        if call is None:
            continue
        arguments = call.arguments | spread(call.arguments.get("model_init_kwargs", ast.Dict([], [])), call.before)
        if found := followed(arguments.get("quantization_config"), call.before, r"BitsAndBytesConfig$"):
            return found
    return None


def _loader(model: ast.expr | None, before: Sequence[Statement]) -> Call | None:
    """The call that loads what the trainer is given as its model; None where that is a name for the hub."""
    if model is not None and _is_text(model, before):
        return None
    node, end = model, len(before)
    while isinstance(node, ast.Name | ast.Call):
        if isinstance(node, ast.Call):
            if re.search(LOADERS, ast.unparse(node.func)):
                return call_of(node, before[:end], before[end].place if end < len(before) else "")
            node = _wrapped(node)
            continue
        found = next((i for i in range(end - 1, -1, -1) if node.id in _bound(before[i].node)), None)
        if found is None:
            break
        # Before its own statement, or `model = get_peft_model(model)` would lead back to itself.
        node, end = _bound(before[found].node)[node.id], found
    return last_call(before, LOADERS)


def _wrapped(call: ast.Call) -> ast.expr | None:
    """The model that a call is given, as get_peft_model(model, ...), or is made on, as model.to(...)."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "model"]
    if isinstance(call.func, ast.Attribute) and call.func.attr in ON_MODEL:
        return call.func.value
    return next(iter([*named, *call.args]), None)


def _is_text(node: ast.expr, before: Sequence[Statement]) -> bool:
    try:
        return isinstance(evaluate(node, before), str)
    except UnknownValueError:
        return False


def _bound(node: ast.stmt) -> dict[str, ast.expr]:
    """The names that an assignment binds, each with what it takes it from."""
    if not isinstance(node, ast.Assign):
        return {}
    found: dict[str, ast.expr] = {}
    for target in node.targets:
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        values = [node.value] * len(names)
        if isinstance(node.value, ast.Tuple) and len(node.value.elts) == len(names) > 1:
            values = node.value.elts
        found |= {name.id: value for name, value in zip(names, values, strict=True) if isinstance(name, ast.Name)}
    return found


def _model_config(before: Sequence[Statement]) -> Call | None:
    """TRL's ModelConfig, which names the adapter's settings in its own way."""
    found = last_call(before, r"ModelConfig$", having="lora_r")
    if found is None:
        return None
    arguments = {MODEL_CONFIG.get(name, name): value for name, value in found.arguments.items()}
    return Call(name=found.name, arguments=arguments, before=found.before, place=found.place)
