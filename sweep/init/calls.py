"""Calls in a source: found by name, with their arguments, and what those come to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweep.init.source import Statement
from sweep.init.values import UnknownValueError, evaluate

TRAINER_ARGUMENTS = ("model", "reward_funcs", "args", "train_dataset", "eval_dataset", "processing_class")
"""The order of GRPOTrainer's arguments in TRL 1.13."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call, its arguments by name, and the statements that run before it."""

    name: str
    arguments: dict[str, ast.expr]
    before: Sequence[Statement]
    place: str
    outer: str = ""
    """The function or class in which it stands, if nothing is known to run that."""

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


def calls_of(statements: Sequence[Statement], pattern: str) -> Iterator[Call]:
    """Calls whose name ends so, in order."""
    for i, statement in enumerate(statements):
        for node in ast.walk(statement.node):
            if isinstance(node, ast.Call) and re.search(pattern, ast.unparse(node.func)):
                call = call_of(node, statements[:i], statement.place)
                within = statement.node
                outer = within.name if isinstance(within, ast.FunctionDef | ast.ClassDef) else ""
                yield replace(call, outer=outer)


def call_of(node: ast.Call, before: Sequence[Statement], place: str) -> Call:
    """A call, with the arguments that a spread dictionary gives it, and those given in order by their names."""
    name = ast.unparse(node.func)
    order = TRAINER_ARGUMENTS if name.endswith("GRPOTrainer") else ("model_name",)
    arguments = dict(zip(order, node.args, strict=False))
    for keyword in node.keywords:
        if keyword.arg is not None:
            arguments[keyword.arg] = keyword.value
            continue
        arguments |= spread(keyword.value, before)
    # Transformers names it otherwise than Unsloth; the study needs one name.
    if name.endswith("from_pretrained") and "pretrained_model_name_or_path" in arguments:
        arguments["model_name"] = arguments.pop("pretrained_model_name_or_path")
    return Call(name=name, arguments=arguments, before=before, place=place)


def spread(node: ast.expr, before: Sequence[Statement]) -> dict[str, ast.expr]:
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
                    return spread(statement.node.value, before)  # type: ignore[attr-defined]
    return {}


def followed(node: ast.expr | None, before: Sequence[Statement], pattern: str) -> Call | None:
    """The call that an expression is, or is a name for."""
    if isinstance(node, ast.Call) and re.search(pattern, ast.unparse(node.func)):
        return call_of(node, before, "")
    if isinstance(node, ast.Name):
        for i in range(len(before) - 1, -1, -1):
            if _assigns(before[i].node, node.id):
                found = followed(before[i].node.value, before[:i], pattern)  # type: ignore[attr-defined]
                return found and Call(
                    name=found.name, arguments=found.arguments, before=found.before, place=before[i].place
                )
    return None


def _assigns(node: ast.stmt, name: str) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id=target)]) | ast.AnnAssign(target=ast.Name(id=target), value=ast.expr()):
            return target == name
    return False


def with_attributes(config: Call, trainer: Call) -> Call:
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


def last_call(statements: Sequence[Statement], pattern: str, *, having: str | None = None) -> Call | None:
    """The last such call; one within a function that nothing is known to call only where there is no other."""
    found = [call for call in calls_of(statements, pattern) if having is None or having in call.arguments]
    # A helper that nothing calls may hold a second, unused set-up.
    run = [call for call in found if not call.outer]
    return next(reversed(run or found), None)
