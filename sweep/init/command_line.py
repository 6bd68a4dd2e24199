"""What a script's command line comes to when nothing is given on it: its defaults."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sweep.errors import UsageError
from sweep.init.source import Statement

ARGPARSE = ("parse_args", "parse_known_args")
DATACLASSES = ("parse_args_and_config", "parse_args_into_dataclasses", "parse_dict", "parse_yaml_file")
"""Methods of TRL's TrlParser and Transformers' HfArgumentParser."""
PARSERS = ("TrlParser", "HfArgumentParser")


@dataclass(slots=True)
class Defaults:
    """Statements that give a command line's defaults, and what their reader should know."""

    statements: list[Statement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def defaults_of_command_line(statement: Statement, before: Sequence[Statement]) -> Defaults | None:
    """The same names with their defaults; None where a statement reads no command line."""
    node = statement.node
    if not (isinstance(node, ast.Assign) and len(node.targets) == 1):
        return None
    value: ast.expr = node.value
    position: object = None
    if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Constant):
        position = value.slice.value
        value = value.value
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)):
        return None
    target = node.targets[0]
    names = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
    if value.func.attr in ARGPARSE and (options := _options(before)):
        return _namespace(ast.unparse(names[0]), options, statement.place)
    if value.func.attr in (*DATACLASSES, *ARGPARSE):
        kinds = _kinds(value.func.value, before)
        if kinds and isinstance(position, int):
            kinds = kinds[position : position + 1]
        if kinds:
            return _instances([ast.unparse(name) for name in names], kinds, statement.place)
    return None


def _namespace(name: str, options: Sequence[ast.Call], place: str) -> Defaults:
    """An argparse namespace of the options' defaults."""
    given, required = [], []
    for option in options:
        key, default = _option(option)
        if default is None:
            required.append(key)
        else:
            given.append(f"{key}={default}")
    lines = ["from argparse import Namespace", f"{name} = Namespace({', '.join(given)})"]
    made = Defaults(statements=[_statement(line, place) for line in lines])
    made.notes.append(f"{place}: it reads a command line; the study says what its options default to")
    if required:
        made.notes.append(f"{place}: its command line must give {', '.join(required)}, which nothing here does")
    return made


def _options(before: Sequence[Statement]) -> list[ast.Call]:
    """The calls of `add_argument` before it."""
    return [
        node
        for statement in before
        if not isinstance(statement.node, ast.FunctionDef | ast.ClassDef)
        for node in ast.walk(statement.node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument"
    ]


def _option(call: ast.Call) -> tuple[str, str | None]:
    """An option's name, and its default as Python; None where it has to be given."""
    flags = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    long = [flag for flag in flags if flag.startswith("--")] or flags or ["_"]
    # argparse names an option after its first long flag.
    key = long[0].lstrip("-").replace("-", "_")
    if "dest" in given and isinstance(given["dest"], ast.Constant):
        key = str(given["dest"].value)
    action = ast.unparse(given["action"]).strip("'\"") if "action" in given else ""
    if "default" in given:
        default, kind = given["default"], given.get("type")
        text = isinstance(default, ast.Constant) and isinstance(default.value, str)
        if text and isinstance(kind, ast.Name) and kind.id in ("int", "float"):
            return key, f"{kind.id}({ast.unparse(default)})"  # argparse converts a default that is text
        return key, ast.unparse(default)
    if action in ("store_true", "store_false"):
        return key, str(action == "store_false")
    required = given.get("required")
    positional = bool(flags) and not flags[0].startswith("-") and not isinstance(given.get("nargs"), ast.Constant)
    if positional or (isinstance(required, ast.Constant) and required.value):
        return key, None
    return key, "None"


def _kinds(parser: ast.expr, before: Sequence[Statement]) -> list[ast.expr]:
    """The dataclasses that a parser was made for."""
    if isinstance(parser, ast.Name):
        for statement in reversed(before):
            node = statement.node
            if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == parser.id for target in node.targets
            ):
                return _kinds(node.value, before)
        return []
    if not (isinstance(parser, ast.Call) and ast.unparse(parser.func).endswith(PARSERS)):
        return []
    given = [*parser.args, *(keyword.value for keyword in parser.keywords if keyword.arg == "dataclass_types")]
    if not given:
        return []
    return list(given[0].elts) if isinstance(given[0], ast.Tuple | ast.List) else [given[0]]


def _instances(names: Sequence[str], kinds: Sequence[ast.expr], place: str) -> Defaults:
    """One instance of each dataclass, with its defaults."""
    made = Defaults(statements=list(_made(names, kinds, place)))
    shown = ", ".join(ast.unparse(kind) for kind in kinds)
    made.notes.append(
        f"{place}: it is told on its command line, or in a file, how to train ({shown}); what it is told is not in the "
        "source, so that the study says defaults: put in yours, learning rate, lengths, batch and LoRA first"
    )
    return made


def _made(names: Sequence[str], kinds: Sequence[ast.expr], place: str) -> Iterator[Statement]:
    for name, kind in zip(names, kinds, strict=False):
        if name != "_":
            yield _statement(f"{name} = {ast.unparse(kind)}()", place)


def _statement(text: str, place: str) -> Statement:
    return Statement(node=ast.parse(text).body[0], text=text, place=place)


def refuse_ungiven(kept: Sequence[Statement], source: str) -> None:
    """Refuses code that uses what only a command line would give it.

    Raises:
        UsageError: with the names.
    """
    classes = {each.node.name: each.node for each in kept if isinstance(each.node, ast.ClassDef)}
    for statement in kept:
        match statement.node:
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id=kind), args=[], keywords=given)
            ):
                pass
            case _:
                continue
        if kind == "Namespace":
            used, stored = (
                {attribute for each in kept for attribute in _attributes(each.node, name, context)}
                for context in (ast.Load, ast.Store)
            )
            ungiven = used - stored - {keyword.arg for keyword in given if keyword.arg}
        elif kind in classes and not given and _is_dataclass(classes[kind]):
            fields = [each for each in classes[kind].body if isinstance(each, ast.AnnAssign)]
            ungiven = {ast.unparse(each.target) for each in fields if each.value is None}
        else:
            continue
        if ungiven:
            first = sorted(ungiven)[:3]
            raise UsageError(
                f"{source}: its rewards or data use {name}, which its command line must give "
                f"({', '.join(first)}{' ...' if len(ungiven) > 3 else ''}); put the values into the source"
            )


def _attributes(node: ast.AST, name: str, kind: type[ast.expr_context]) -> set[str]:
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, kind)
        and isinstance(each.value, ast.Name)
        and each.value.id == name
    }


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(each) for each in node.decorator_list)
