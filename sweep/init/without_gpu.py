"""Statements that ask for a GPU as they are imported, written so that they need none."""

from __future__ import annotations

import ast
import copy
import re

from sweep.init.source import Statement

SANDBOX = {"Benchmarker", "check_python_modules", "create_locked_down_function", "execute_with_time_limit"}
"""Functions that run code which a model wrote, in unsloth_zoo 2026.10."""
NO_GPU = {"use_cpu": True, "bf16": False, "tf32": None}
"""What a configuration is made with: TRL 1.13 asks for bfloat16 unless told otherwise."""


def text_without_gpu(statement: Statement) -> str:
    """A statement's text; what Unsloth 2026.10 exports on a GPU alone is imported from where it is defined."""
    match statement.node:
        case (ast.Assign(value=ast.Call() as call) | ast.AnnAssign(value=ast.Call() as call)) as node if re.search(
            r"(GRPOConfig|TrainingArguments)$", ast.unparse(call.func)
        ):
            made = copy.copy(node)
            made.value = _on_the_processor(call)
            return ast.unparse(made)
        case ast.ImportFrom(module="unsloth", names=names) if {alias.name for alias in names} <= SANDBOX:
            return (
                "import os\n\n# These need no GPU, and nothing more of Unsloth.\n"
                'os.environ.setdefault("UNSLOTH_IS_PRESENT", "1")\n'
                f"from unsloth_zoo.rl_environments import {', '.join(ast.unparse(alias) for alias in names)}"
            )
    return statement.text


def _on_the_processor(call: ast.Call) -> ast.Call:
    """A configuration as it is made on a processor, whatever it says of GPUs itself."""
    named = [keyword for keyword in call.keywords if keyword.arg is not None and keyword.arg not in NO_GPU]
    spread = [keyword.value for keyword in call.keywords if keyword.arg is None]
    own: list[tuple[str, ast.expr]] = [(name, ast.Constant(value)) for name, value in NO_GPU.items()]
    if spread:
        # Within one dictionary: those that theirs spreads may hold the same arguments, and each is given once.
        keys: list[ast.expr | None] = [None] * len(spread)
        keys += [ast.Constant(name) for name, _ in own]
        named.append(ast.keyword(arg=None, value=ast.Dict(keys, [*spread, *(value for _, value in own)])))
    else:
        named += [ast.keyword(arg=name, value=value) for name, value in own]
    return ast.Call(func=call.func, args=call.args, keywords=named)
