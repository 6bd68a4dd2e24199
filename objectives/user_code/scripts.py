"""Noticing that a module is a script, from its source alone: to import it would be to run it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

ARGUMENTS = {"parse_args", "parse_known_args", "parse_args_into_dataclasses", "parse_args_and_config"}
"""What reads a command line, in argparse, Transformers and TRL."""
RUNNERS = {("tyro", "cli"), ("typer", "run"), ("fire", "Fire")}
"""The same in packages that make a command of a function."""
TRAINERS = re.compile(r"(\w*(GRPO|SFT|DPO|PPO|RLOO|Reward|Seq2Seq|Unsloth))?Trainer")
TRAINER_NAME = re.compile(r"train|learner", re.IGNORECASE)
"""What people call a trainer; anything else may have a method `train` of its own, as torch's modules do."""
LOADERS = {"FastLanguageModel", "FastModel", "FastVisionModel"}
"""Unsloth's classes whose `from_pretrained` loads a model to train."""


def find_script(tree: ast.Module) -> tuple[int, str] | None:
    """The first line that importing a module would run and that no module of functions has, and what it does.

    Code under `if __name__ == "__main__"` does not run then. A function that the module calls as it is imported does.
    """
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    found: dict[int, str] = {}
    seen: set[str] = set()

    def look(body: list[ast.stmt], at: int | None) -> None:
        for call in _run_by(body):
            if isinstance(call, ast.Attribute):
                if (call.attr, _name(call.value)[0]) == ("argv", "sys") and isinstance(call.ctx, ast.Load):
                    found.setdefault(at or call.lineno, "reads a command line")
                continue
            if what := _what(call):
                found.setdefault(at or call.lineno, what)
            name = call.func.id if isinstance(call.func, ast.Name) else None
            if name in functions and name not in seen:
                seen.add(name)
                look(functions[name].body, at or call.lineno)

    look(tree.body, None)
    return min(found.items(), default=None)


def _run_by(body: list[ast.stmt]) -> Iterator[ast.Call | ast.Attribute]:
    """Calls and attributes that run with these statements: not those within functions and classes that they define."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        # Its else branch runs on import.
        if isinstance(node, ast.If) and _is_main(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Call | ast.Attribute):
            yield node
        waiting += ast.iter_child_nodes(node)


def _is_main(test: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(test)) and any(
        isinstance(node, ast.Constant) and node.value == "__main__" for node in ast.walk(test)
    )


def _what(call: ast.Call) -> str | None:
    """What a call does that belongs to scripts; None where it may be anyone's."""
    name, owner = _name(call.func)
    if name in ARGUMENTS or (owner, name) in RUNNERS:
        return "reads a command line"
    if name == "train" and isinstance(call.func, ast.Attribute) and not call.args:
        return "trains" if TRAINER_NAME.search(ast.unparse(call.func.value)) else None
    if TRAINERS.fullmatch(name):
        return "makes a trainer"
    if name == "from_pretrained" and owner in LOADERS:
        return "loads a model to train"
    if (owner, name) == ("", "input"):
        return "asks at the keyboard"
    return "is an exported notebook" if name == "get_ipython" else None


def _name(function: ast.expr) -> tuple[str, str]:
    """A called function's name, and the last name before it: `train`, `trainer`."""
    if isinstance(function, ast.Attribute):
        return function.attr, _name(function.value)[0] or "it"
    return (function.id, "") if isinstance(function, ast.Name) else ("", "")
