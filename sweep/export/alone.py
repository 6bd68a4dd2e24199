"""Whether a training script can do without this project: with the user's own rewards and rows beside it, it can."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from objectives.errors import TaskError
from objectives.settings.tasks import DatasetSettings
from objectives.tasks.build import build_task
from objectives.tasks.code_rows import TOKENIZER, is_code
from objectives.tasks.protocol import Task
from objectives.tasks.rows import is_local
from objectives.tasks.user_files import own_modules
from objectives.user_code.sources import own_sources
from sweep.preflight.prompts import find_tokenizer, fitting
from sweep.study.file import StudyFile

ROWS = "train.jsonl"
"""The rows that the study trained on, where they came from a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """What a script that stands alone is made of."""

    source: Literal["file", "code", "hub"]
    """Where its rows come from: `train.jsonl` beside it, a function of the user's, or the hub."""
    rewards: tuple[tuple[str, str, str], ...]
    """Alias, module and function of each."""
    rows: tuple[str, str] | None
    """Module and function, for rows from code."""
    wants_tokenizer: bool
    """Whether that function has a parameter `tokenizer`."""
    files: dict[str, bytes]
    """What lies beside it, by name: the user's modules as they are, and rows."""


def alone(config: StudyFile, folders: Sequence[Path]) -> Alone | None:
    """Makes it; None where the study's task, model or files need this project or are not here.

    Args:
        config: The study.
        folders: Where the user's modules and files are looked for.
    """
    task = config.task
    if not isinstance(task, DatasetSettings) or config.model.name.startswith("shipped/") or config.model.adapter:
        return None
    try:
        sources = own_sources(own_modules(task), folders)
        if set(own_modules(task)) - sources.keys() and is_code(task.data):
            return None
        files = {_file_of(module, path): path.read_bytes() for module, path in sources.items()}
        source: Literal["file", "code", "hub"] = "code" if is_code(task.data) else "hub"
        if source == "hub" and is_local(task.data, folders):
            source = "file"
            # chat=True: that the model can be asked these prompts the study has shown.
            made: Task = build_task(task, seed=config.study.seed, folders=folders, chat=True)
            tokenizer = find_tokenizer(config)
            made = made if tokenizer is None else fitting(made, config, tokenizer)
            rows = [json.dumps(row, ensure_ascii=False) for row in made.train_rows(task.train_prompts)]
            files[ROWS] = ("\n".join(rows) + "\n").encode()
    except (TaskError, OSError, TypeError):  # a row that JSON cannot hold, too
        return None
    named = [(alias, *reference.split(":")) for alias, reference in task.named_rewards().items()]
    module, _, function = task.data.partition(":")
    return Alone(
        source=source,
        rewards=tuple((_identifier(alias), module_of, function_of) for alias, module_of, function_of in named),
        rows=(module, function) if source == "code" else None,
        wants_tokenizer=source == "code" and _wants_tokenizer(sources[module], function),
        files=files,
    )


def _wants_tokenizer(source: Path, function: str) -> bool:
    """Whether a function has a parameter of that name, by its source."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return TOKENIZER in {argument.arg for argument in [*node.args.args, *node.args.kwonlyargs]}
    return False


def _file_of(module: str, path: Path) -> str:
    """Where a module's file lies, from the folder that its import starts from."""
    place = module.replace(".", "/")
    return f"{place}/__init__.py" if path.name == "__init__.py" else f"{place}.py"


def _identifier(alias: str) -> str:
    """An alias as a name of its own in the script; TRL logs a function by the name that it was defined with."""
    return "reward_" + "".join(c if c.isalnum() else "_" for c in alias)
