"""`task.py`: the part of a source that its rewards and training rows need, and nothing that trains."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sweep.errors import UsageError
from sweep.init.command_line import refuse_ungiven
from sweep.init.imports import missing_modules
from sweep.init.recipe import Recipe
from sweep.init.rewards import reward_functions
from sweep.init.slicing import defined, free_names, needed_by
from sweep.init.source import Statement, indented
from sweep.init.without_gpu import text_without_gpu

ROWS = "rows"
"""What the function that gives the rows is called, unless their code calls something so."""
TOKENIZER = "tokenizer"
DATA_FILE = r"""["']([\w./-]+\.(?:csv|tsv|jsonl?|parquet|txt|ya?ml))["']"""
LOADERS = re.compile(r"(\.from_pretrained|get_peft_model|\.for_inference|\.for_training)$")


@dataclass(slots=True, kw_only=True)
class TaskFile:
    """The module's text, and the references that a study makes to it."""

    text: str
    rewards: dict[str, str]
    data: str
    one_prompt: bool
    """Whether the rows are one row many times over, as `[row] * 1000`."""
    missing: list[str]
    """Modules that it imports, and that are not installed here."""
    look_at: list[str] = field(default_factory=list)


def task_file(recipe: Recipe) -> TaskFile:
    """Slices a source.

    Raises:
        UsageError: where rewards or rows need the model, or something that is defined nowhere.
    """
    trainer, source = recipe.trainer, recipe.source
    if "train_dataset" not in trainer.arguments:
        raise UsageError(f"{source.path.name}: GRPOTrainer is given no train_dataset")
    statements = _without_model(recipe)
    functions, nameless = reward_functions(recipe)
    needed = {name for expression in functions.values() for name in free_names(expression)}
    rewards, missing = needed_by(needed, statements)
    train = trainer.arguments["train_dataset"]
    held_out = trainer.arguments.get("eval_dataset")
    returned = [train, *([held_out] if held_out is not None and not _is_none(held_out) else [])]
    rows, missing_rows = needed_by({name for each in returned for name in free_names(each)}, statements)
    # Statements that both need are written once, at the top.
    rows = [statement for statement in rows if statement not in rewards]
    stars = [statement for statement in statements if _imports_all(statement.node)]
    if unknown := (missing | missing_rows) - {TOKENIZER, "model", "trainer"}:
        # A star import may bring the name; without one, nothing can.
        if not stars:
            _refuse_missing(unknown, recipe)
        rewards = [*stars, *rewards]
    _refuse_missing((missing | missing_rows) & {"model", "trainer"}, recipe)
    refuse_ungiven([*rewards, *rows], source.path.name)
    name = _rows_name([*rewards, *rows])
    wrapped = functions if nameless else {}
    return TaskFile(
        text=_text(recipe, rewards, rows, returned, wrapped, name=name, uses_tokenizer=TOKENIZER in missing),
        rewards={alias: f"task:{alias}" for alias in functions},
        data=f"task:{name}",
        one_prompt=any(_repeats_one(node) for node in [*(statement.node for statement in rows), *returned]),
        missing=missing_modules(rewards + rows),
        look_at=_look_at(rewards + rows),
    )


def _without_model(recipe: Recipe) -> list[Statement]:
    """The statements before the trainer, less those that load or wrap the model: the worker does that.

    What loads its tokenizer under another name becomes that name for `tokenizer`; other models, as judges, are kept.
    """
    model = _model_text(recipe)
    kept = []
    for statement in recipe.before:
        node = statement.node
        call = node.value if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else None
        name = "" if call is None else ast.unparse(call.func)
        if call is None or not LOADERS.search(name) or "Dataset" in name or _loads_another(call, name, model):
            kept.append(statement)
            continue
        target = node.targets[0]  # type: ignore[attr-defined]
        if isinstance(target, ast.Tuple) and len(target.elts) > 1:
            target = target.elts[1]
        elif "Tokenizer" not in name and "Processor" not in name:
            continue
        if isinstance(target, ast.Name) and target.id != TOKENIZER:
            text = f"{target.id} = {TOKENIZER}"
            kept.append(Statement(node=ast.parse(text).body[0], text=text, place=statement.place))
    return kept


def _model_text(recipe: Recipe) -> str:
    """How the source writes the name of the model that it trains."""
    named = (
        recipe.trainer.arguments.get("model") if recipe.loader is None else recipe.loader.arguments.get("model_name")
    )
    return "" if named is None else ast.unparse(named)


def _loads_another(call: ast.Call, name: str, model: str) -> bool:
    """Whether a call of Transformers loads something else than the model that is trained, or its tokenizer."""
    given = [*call.args, *(each.value for each in call.keywords if each.arg == "pretrained_model_name_or_path")]
    return bool(re.search(r"Auto\w+\.from_pretrained$", name) and given and model) and ast.unparse(given[0]) != model


def _refuse_missing(missing: set[str], recipe: Recipe) -> None:
    name = recipe.source.path.name
    trained = {"model", "trainer"} & missing
    if trained:
        raise UsageError(
            f"{name}: its rewards or data use {' and '.join(sorted(trained))}, which only exists while it trains; move "
            "what they need into functions of their own"
        )
    if missing:
        raise UsageError(f"{name}: nothing there defines {', '.join(sorted(missing))}, which its rewards or data use")


def _text(
    recipe: Recipe,
    rewards: Sequence[Statement],
    rows: Sequence[Statement],
    returned: Sequence[ast.expr],
    wrapped: dict[str, ast.expr],
    *,
    name: str,
    uses_tokenizer: bool,
) -> str:
    """task.py: what rewards need at the top level, and the rows in a function of their own."""
    model = None if recipe.loader is None else recipe.loader.get("model_name")
    parts = [f'"""Rewards and training rows of {recipe.source.path.name}, for a sweep."""\n']
    if uses_tokenizer:
        parts.append(
            "import os\n\nfrom transformers import AutoTokenizer\n\n"
            "# A sweep names its model here while it imports this module.\n"
            f'{TOKENIZER} = AutoTokenizer.from_pretrained(os.environ.get("SWEEP_MODEL", {str(model)!r}))\n'
        )
    parts += [text_without_gpu(statement) + "\n" for statement in rewards]
    parts += [
        f"{alias} = {ast.unparse(expression)}\n"
        for alias, expression in wrapped.items()
        if not isinstance(expression, ast.Name)
    ]
    inner = [text_without_gpu(statement) for statement in rows]
    values = ", ".join(ast.unparse(each) for each in returned)
    in_rows = {name for statement in rows for name in free_names(statement.node)} | {
        name for each in returned for name in free_names(each)
    }
    argument = TOKENIZER if TOKENIZER in in_rows and not uses_tokenizer else ""
    said = (
        "The rows to train on, and those to score on."
        if len(returned) > 1
        else "The rows to train on, as they were prepared."
    )
    body = [f'"""{said}"""', *_declared_global(rows), *inner, f"return {values}"]
    parts.append(f"def {name}({argument}):\n" + indented("\n".join(body)) + "\n")
    return "\n".join(parts)


def _declared_global(rows: Sequence[Statement]) -> list[str]:
    """Names that functions among the rows' statements set as globals of a notebook."""
    shared = {n for each in rows for node in ast.walk(each.node) if isinstance(node, ast.Global) for n in node.names}
    return [f"global {', '.join(sorted(shared))}"] if shared else []


def _rows_name(statements: Sequence[Statement]) -> str:
    taken = {name for statement in statements for name in defined(statement.node)}
    return next(name for name in (ROWS, "train_rows", "rows_to_train_on", "sweep_rows") if name not in taken)


def _repeats_one(node: ast.AST) -> bool:
    """Whether a list of one item is multiplied somewhere in it."""
    return any(
        isinstance(each, ast.BinOp)
        and isinstance(each.op, ast.Mult)
        and any(isinstance(side, ast.List) and len(side.elts) == 1 for side in (each.left, each.right))
        for each in ast.walk(node)
    )


def _imports_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.names[0].name == "*"


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _look_at(statements: Sequence[Statement]) -> list[str]:
    """What in the code that was carried over somebody should look at."""
    text = "\n".join(statement.text for statement in statements)
    notes = []
    if re.search(r"\bglobal\b", text):
        notes.append(
            "task.py: a reward keeps state between calls: `sweep try-reward` shows whether its values depend on it"
        )
    if re.search(r"\bload_dataset\(|snapshot_download\(|requests\.", text):
        notes.append("task.py: it downloads data when the study starts")
    if re.search(r"^\s*(from|import) unsloth\b(?!_)", "\n".join(map(text_without_gpu, statements)), re.MULTILINE):
        notes.append("task.py: it imports Unsloth, which takes some seconds whenever the module is imported")
    if files := sorted(set(re.findall(DATA_FILE, text))):
        notes.append(
            f"task.py: it names {', '.join(files)}: put it into the folder that you sweep in, or name a full path"
        )
    if re.search(r"\bparse_args", text):
        notes.append("task.py: it reads a command line, which a sweep has none of: put the values in by hand")
    if re.search(r"google\.colab|userdata|kaggle_secrets", text):
        notes.append("task.py: it asks Colab or Kaggle for something, which is not there elsewhere")
    return notes
