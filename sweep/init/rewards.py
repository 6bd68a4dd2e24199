"""Which functions reward a source's completions: the list that its trainer is given, however it was put together."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from sweep.errors import UsageError
from sweep.init.recipe import Recipe
from sweep.init.slicing import defined
from sweep.init.source import Statement
from sweep.init.values import UnknownValueError, evaluate

GROWS = {"append", "extend", "insert"}
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try)
PARTIAL = ("partial", "functools.partial")


class _UndecidedError(Exception):
    """Which rewards there are is known only when it runs."""


def reward_functions(recipe: Recipe) -> tuple[dict[str, ast.expr], bool]:
    """The reward functions by name, and whether names have to be given to any of them.

    Raises:
        UsageError: where they are models, or known only when it runs.
    """
    source = recipe.source.path.name
    given = recipe.trainer.arguments["reward_funcs"]
    try:
        items = _items(given, recipe.before)
    except _UndecidedError as error:
        raise UsageError(
            f"{source}: which rewards it trains with is known only when it runs ({error}); write them as a list, "
            "reward_funcs=[first, second]"
        ) from error
    if not items:
        raise UsageError(f"{source}: its reward_funcs are an empty list; a sweep needs one function or more")
    named: dict[str, ast.expr] = {}
    for i, item in enumerate(items, start=1):
        if isinstance(item, ast.Constant):
            raise UsageError(f"{source}: the reward {item.value!r} is a model; a sweep calls functions: wrap it")
        named[_alias(item, named) or f"reward_{i}"] = item
    return named, any(not isinstance(item, ast.Name) for item in items)


def _alias(item: ast.expr, taken: dict[str, ast.expr]) -> str | None:
    """A name for a reward: its own, or the attribute's that it is looked up as."""
    if isinstance(item, ast.Name):
        return item.id
    return item.attr if isinstance(item, ast.Attribute) and item.attr not in taken else None


def _items(  # noqa: PLR0911 - one arm for each way to write a list
    node: ast.expr, before: Sequence[Statement]
) -> list[ast.expr]:
    """The functions that an expression lists, or the one that it is.

    Raises:
        _UndecidedError: where that is known only when it runs.
    """
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [each for item in items for each in _spread(item, before)]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _items(left, before) + _items(right, before)
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[inner]):
            return _items(inner, before)
        case ast.Name(id=name):
            return _named(name, before)
        case ast.ListComp(elt=elt, generators=[ast.comprehension(target=ast.Name(id=name), iter=each, ifs=[])]):
            return [_looked_up(elt, name, key, before) for key in _keys(each, before)]
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="values"), args=[]):
            return list(_table(name, before).values())
        case ast.Call() if not _makes_one(node, before):
            raise _UndecidedError(ast.unparse(node))
        case ast.Subscript():
            return [_looked_up(node, "", "", before)]
    return [node]


def _spread(item: ast.expr, before: Sequence[Statement]) -> list[ast.expr]:
    return _items(item.value, before) if isinstance(item, ast.Starred) else [item]


def _named(  # noqa: PLR0911 - one arm for each kind of statement
    name: str, before: Sequence[Statement]
) -> list[ast.expr]:
    """The functions that a name stands for once all of these have run."""
    # From the end: what was said last is what holds, and what it builds on is looked up before it.
    for i in range(len(before) - 1, -1, -1):
        node = before[i].node
        if name not in defined(node) and not _grows(node, name):
            continue
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Import() | ast.ImportFrom():
                return [ast.Name(id=name)]
            case ast.Assign(targets=[ast.Name()], value=ast.Name(id=other)) if other != name:
                return _named(other, before[:i])
            case ast.Assign(targets=[ast.Name()], value=value) | ast.AnnAssign(value=ast.expr() as value):
                if isinstance(value, ast.Lambda | ast.Attribute) or _makes_one(value, before[:i]):
                    return [ast.Name(id=name)]
                return _items(value, before[:i])
            case ast.AugAssign(op=ast.Add(), value=added):
                return _named(name, before[:i]) + _items(added, before[:i])
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr="append"), args=[added])):
                return [*_named(name, before[:i]), added]
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr="extend"), args=[added])):
                return _named(name, before[:i]) + _items(added, before[:i])
        raise _UndecidedError(f"{before[i].place}: {ast.unparse(node).splitlines()[0]}")
    return [ast.Name(id=name)]


def _grows(node: ast.AST, name: str) -> bool:
    """Whether a statement adds to a list of that name."""
    if isinstance(node, (ast.Expr, *BLOCKS)):
        return any(
            isinstance(each, ast.Call)
            and isinstance(each.func, ast.Attribute)
            and each.func.attr in GROWS
            and ast.unparse(each.func.value) == name
            for each in ast.walk(node)
        )
    return False


def _makes_one(node: ast.expr, before: Sequence[Statement]) -> bool:
    """Whether a call surely makes one function: a partial, an instance, or what a factory here returns."""
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    if name in PARTIAL:
        return True
    for statement in reversed(before):
        made = statement.node
        if isinstance(made, ast.ClassDef) and made.name == name:
            return True
        if isinstance(made, ast.FunctionDef) and made.name == name:
            inner = {each.name for each in ast.walk(made) if isinstance(each, ast.FunctionDef) and each is not made}
            returned = [each.value for each in made.body if isinstance(each, ast.Return)]
            return bool(returned) and all(
                isinstance(each, ast.Lambda)
                or (isinstance(each, ast.Name) and each.id in inner)
                or (isinstance(each, ast.Call) and ast.unparse(each.func) in PARTIAL)
                for each in returned
            )
    return name.rpartition(".")[2][:1].isupper()  # an imported class, by custom


def _keys(node: ast.expr, before: Sequence[Statement]) -> list[object]:
    try:
        return list(evaluate(node, before))
    except (UnknownValueError, TypeError) as error:
        raise _UndecidedError(ast.unparse(node)) from error


def _looked_up(node: ast.expr, name: str, key: object, before: Sequence[Statement]) -> ast.expr:
    """The entry of a table of functions that an expression looks up, with `name` standing for `key`."""
    match node:
        case ast.Subscript(value=ast.Name(id=table), slice=index):
            pass
        case ast.Call(func=ast.Attribute(value=ast.Name(id=table), attr="get"), args=[index, *_]):
            pass
        case _:
            raise _UndecidedError(ast.unparse(node))
    if not (isinstance(index, ast.Name) and index.id == name):
        try:
            key = evaluate(index, before)
        except UnknownValueError as error:
            raise _UndecidedError(ast.unparse(node)) from error
    entries = _table(table, before)
    if key not in entries:
        raise _UndecidedError(f"{table} has no {key!r}")
    return entries[key]


def _table(name: str, before: Sequence[Statement]) -> dict[object, ast.expr]:
    """A dictionary of functions, as it was written."""
    for statement in reversed(before):
        match statement.node:
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Dict(keys=keys, values=values)) if target == name:
                return {
                    key.value: item for key, item in zip(keys, values, strict=True) if isinstance(key, ast.Constant)
                }
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.Dict(keys=keys, values=values)) if target == name:
                return {
                    key.value: item for key, item in zip(keys, values, strict=True) if isinstance(key, ast.Constant)
                }
    raise _UndecidedError(f"{name} is no table that is written out")
