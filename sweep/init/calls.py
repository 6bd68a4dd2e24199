"""The calls in a source that say what is trained: model, adapter, configuration, trainer."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.errors import StudyFileError
from sweep.init.source import Source, Statement
from sweep.init.values import UnknownValueError, evaluate

TRAINER_ARGUMENTS = ("model", "reward_funcs", "args", "train_dataset", "eval_dataset", "processing_class")
"""The order of GRPOTrainer's arguments in TRL 1.13."""
IMAGES = re.compile(r"""["']type["']\s*:\s*["']image|\[["']images?["']\]|process_vision_info""")
"""How chat messages and rows name a picture."""
ENVIRONMENTS = re.compile(r"^\s*(?:from|import)\s+(?:openenv|envs)\b", re.MULTILINE)
MODEL_CONFIG = {"lora_r": "r", "lora_target_modules": "target_modules"}
LOOPS = ("rollout_func", "environment_factory", "tools")
"""Arguments with which TRL's trainer talks to tools or an environment between tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call, its arguments by name, and the statements that run before it."""

    name: str
    arguments: dict[str, ast.expr]
    before: Sequence[Statement]
    place: str

    @property
    def short_name(self) -> str:
        """The function's own name, without what it is looked up in."""
        return self.name.rpartition(".")[2]

    def value(self, argument: str) -> Any:
        """What an argument comes to.

        Raises:
            KeyError: where it was not given.
            UnknownValueError: where that cannot be known.
        """
        return evaluate(self.arguments[argument], self.before)

    def get(self, argument: str, default: Any = None) -> Any:
        """The same; a default where it was not given, or cannot be known."""
        try:
            return self.value(argument)
        except (KeyError, UnknownValueError):
            return default


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a source trains. Only the trainer is always there."""

    source: Source
    trainer: Call
    config: Call | None
    loader: Call | None
    adapter: Call | None
    sampling: Call | None
    earlier: tuple[str, ...]
    """Other trainers that run before, as `SFTTrainer`."""

    @property
    def before(self) -> Sequence[Statement]:
        """The statements that run before the trainer is made."""
        return self.trainer.before


def find_recipe(source: Source) -> Recipe:
    """Finds the calls.

    Raises:
        StudyFileError: where the source trains nothing that can be swept; it says why.
    """
    name = source.path.name
    trainers = list(_calls(source.statements, r"Trainer$"))
    grpo = [call for call in trainers if call.name.endswith("GRPOTrainer")]
    if not grpo:
        others = ", ".join(dict.fromkeys(call.name for call in trainers)) or "no trainer"
        raise StudyFileError(f"{name}: no GRPOTrainer is made there (found: {others}); a sweep trains with GRPO")
    trainer = grpo[-1]
    if IMAGES.search(source.text):
        raise StudyFileError(f"{name}: its prompts hold pictures; a sweep trains text policies only")
    loops = [argument for argument in LOOPS if argument in trainer.arguments]
    if loops or ENVIRONMENTS.search(source.text):
        found = f"{loops[0]} is given to the trainer" if loops else "it imports an OpenEnv environment"
        raise StudyFileError(f"{name}: {found}; a sweep samples one completion a prompt, with no tools or environment")
    before = trainer.before
    config = _followed(trainer.arguments.get("args"), before, r"(GRPO|Training|Script)\w*(Config|Arguments)$")
    sampling = None
    if config is not None:
        config = _with_attributes(config, trainer)
        sampling = _followed(config.arguments.get("vllm_sampling_params"), config.before, r"SamplingParams$")
    return Recipe(
        source=source,
        trainer=trainer,
        config=config,
        loader=_last(before, r"(Fast\w*Model|AutoModel\w*)\.from_pretrained$"),
        adapter=_followed(trainer.arguments.get("peft_config"), before, r"LoraConfig$")
        or _last(before, r"(LoraConfig|get_peft_model)$", having="r")
        or _model_config(before),
        sampling=sampling,
        earlier=tuple(
            dict.fromkeys(call.name for call in trainers if call.place != trainer.place and call not in grpo)
        ),
    )


def _model_config(before: Sequence[Statement]) -> Call | None:
    """TRL's ModelConfig, which names the adapter's settings in its own way."""
    found = _last(before, r"ModelConfig$", having="lora_r")
    if found is None:
        return None
    arguments = {MODEL_CONFIG.get(name, name): value for name, value in found.arguments.items()}
    return Call(name=found.name, arguments=arguments, before=found.before, place=found.place)


def _calls(statements: Sequence[Statement], pattern: str) -> Iterator[Call]:
    """Calls whose name ends so, in order."""
    for i, statement in enumerate(statements):
        for node in ast.walk(statement.node):
            if isinstance(node, ast.Call) and re.search(pattern, ast.unparse(node.func)):
                yield _call(node, statements[:i], statement.place)


def _call(node: ast.Call, before: Sequence[Statement], place: str) -> Call:
    name = ast.unparse(node.func)
    order = TRAINER_ARGUMENTS if name.endswith("GRPOTrainer") else ("model_name",)
    arguments = dict(zip(order, node.args, strict=False))
    for keyword in node.keywords:
        if keyword.arg is not None:
            arguments[keyword.arg] = keyword.value
            continue
        arguments |= _spread(keyword.value, before)
    if name.endswith("from_pretrained") and "pretrained_model_name_or_path" in arguments:
        arguments["model_name"] = arguments.pop("pretrained_model_name_or_path")
    return Call(name=name, arguments=arguments, before=before, place=place)


def _spread(node: ast.expr, before: Sequence[Statement]) -> dict[str, ast.expr]:
    """The arguments that a dictionary spreads into a call, as far as it is known."""
    match node:
        case ast.Dict(keys=keys, values=values):
            return {
                key.value: value
                for key, value in zip(keys, values, strict=True)
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
        case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
            return {keyword.arg: keyword.value for keyword in keywords if keyword.arg}
        case ast.Name(id=name):
            for statement in reversed(before):
                if _assigns(statement.node, name):
                    return _spread(statement.node.value, before)  # type: ignore[attr-defined]
    return {}


def _followed(node: ast.expr | None, before: Sequence[Statement], pattern: str) -> Call | None:
    """The call that an expression is, or is a name for."""
    if isinstance(node, ast.Call) and re.search(pattern, ast.unparse(node.func)):
        return _call(node, before, "")
    if isinstance(node, ast.Name):
        for i in range(len(before) - 1, -1, -1):
            if _assigns(before[i].node, node.id):
                found = _followed(before[i].node.value, before[:i], pattern)  # type: ignore[attr-defined]
                return found and Call(
                    name=found.name, arguments=found.arguments, before=found.before, place=before[i].place
                )
    return None


def _assigns(node: ast.stmt, name: str) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id=target)]) | ast.AnnAssign(target=ast.Name(id=target), value=ast.expr()):
            return target == name
    return False


def _with_attributes(config: Call, trainer: Call) -> Call:
    """A configuration with what was set on it afterwards, as in `training_args.max_steps = 5`."""
    named = trainer.arguments.get("args")
    if not isinstance(named, ast.Name):
        return config
    later = {
        target.attr: statement.node.value
        for statement in trainer.before
        if isinstance(statement.node, ast.Assign)
        for target in statement.node.targets
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == named.id
    }
    return Call(name=config.name, arguments=config.arguments | later, before=trainer.before, place=config.place)


def _last(statements: Sequence[Statement], pattern: str, *, having: str | None = None) -> Call | None:
    found = [call for call in _calls(statements, pattern) if having is None or having in call.arguments]
    return found[-1] if found else None
