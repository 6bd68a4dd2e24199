"""What an expression in a source comes to, as far as it can be known without running anything."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from sweep.init.source import Statement

OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda one, all_of: one in all_of, ast.NotIn: lambda one, all_of: one not in all_of,
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": int, "float": float, "str": str, "len": len, "min": min, "max": max, "round": round, "dict": dict,
    "list": list, "tuple": tuple, "bool": bool,
}  # fmt: skip
METHODS = {"strip", "lstrip", "rstrip", "lower", "upper", "replace", "format", "join", "get", "dedent"}
ENVIRONMENT = re.compile(r"^(os\.)?(getenv|environ\.get)$")
DEPTH = 40
LARGEST = 100_000
"""Values longer than this are not worth knowing, as `[{...}] * 1000000`."""


class UnknownValueError(Exception):
    """What an expression comes to cannot be known without running it."""


def evaluate(node: ast.expr, before: Sequence[Statement], depth: int = 0) -> Any:
    """What an expression comes to.

    Args:
        node: The expression.
        before: The statements that run before it.
        depth: How many names were followed so far.

    Raises:
        UnknownValueError: where it cannot be known.
    """
    if depth > DEPTH:
        raise UnknownValueError(ast.unparse(node))
    try:
        value = _evaluate(node, before, depth)
    except UnknownValueError:
        raise
    except Exception as error:  # arithmetic on what does not add up, as the source's own would
        raise UnknownValueError(f"{ast.unparse(node)}: {error}") from error
    if isinstance(value, str | list | tuple | dict) and len(value) > LARGEST:
        raise UnknownValueError(f"{ast.unparse(node)}: too long")
    return value


def _evaluate(  # noqa: PLR0911, PLR0912 - one arm for each kind of expression
    node: ast.expr, before: Sequence[Statement], depth: int
) -> Any:
    def value(inner: ast.expr) -> Any:
        return evaluate(inner, before, depth + 1)

    match node:
        case ast.Constant(value=constant):
            return constant
        case ast.Name(id=name):
            return _assigned(name, before, depth)
        case ast.List(elts=items) | ast.Set(elts=items):
            return [value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(value(item) for item in items)
        case ast.Dict(keys=keys, values=values) if all(keys):
            return {value(key): value(item) for key, item in zip(keys, values, strict=True) if key is not None}
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            first, second = value(left), value(right)
            # Before it is made: how long a value is, is looked at only after.
            if isinstance(op, ast.Mult) and isinstance(first, str | list) and isinstance(second, int) and second > 1000:
                raise UnknownValueError(ast.unparse(node))
            return OPERATORS[type(op)](first, second)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -value(operand)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not value(operand)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return COMPARISONS[type(op)](value(left), value(right))
        case ast.BoolOp(op=op, values=parts):
            return _either(parts, value) if isinstance(op, ast.Or) else not _either(parts, lambda part: not value(part))
        case ast.Call(func=function, args=[_, default]) if ENVIRONMENT.match(ast.unparse(function)):
            return value(default)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return value(body) if value(test) else value(orelse)
        case ast.JoinedStr(values=parts):
            return "".join(str(value(part)) for part in parts)
        case ast.FormattedValue(value=inner, format_spec=None, conversion=-1):
            return value(inner)
        case ast.Subscript(value=inner, slice=key):
            return value(inner)[value(key)]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords) if name in FUNCTIONS:
            return FUNCTIONS[name](*map(value, arguments), **{k.arg: value(k.value) for k in keywords if k.arg})
        case ast.Call(func=ast.Name(id="getattr"), args=[ast.Name(id=name), ast.Constant(value=str(attribute)), *_]):
            return f"torch.{attribute}" if name == "torch" else _given(name, attribute, before, depth)
        case ast.Call(func=ast.Attribute(value=inner, attr=method), args=arguments) if method in METHODS:
            return getattr(value(inner), method)(*map(value, arguments))
        case ast.Attribute(value=ast.Name(id="torch"), attr=attribute):
            return f"torch.{attribute}"
        case ast.Attribute(value=ast.Name(id=name), attr=attribute):
            return _given(name, attribute, before, depth)
    raise UnknownValueError(ast.unparse(node))


def _assigned(name: str, before: Sequence[Statement], depth: int) -> Any:
    """What a name stands for after the statements before."""
    for i in range(len(before) - 1, -1, -1):
        node, earlier = before[i].node, before[:i]
        match node:
            case ast.Assign(targets=targets, value=assigned):
                for target in targets:
                    if isinstance(target, ast.Name) and target.id == name:
                        return evaluate(assigned, earlier, depth + 1)
                    if isinstance(target, ast.Tuple) and isinstance(assigned, ast.Tuple):
                        for each, item in zip(target.elts, assigned.elts, strict=False):
                            if isinstance(each, ast.Name) and each.id == name:
                                return evaluate(item, earlier, depth + 1)
            case ast.AnnAssign(target=ast.Name(id=target_name), value=assigned) if target_name == name and assigned:
                return evaluate(assigned, earlier, depth + 1)
            case ast.AugAssign(target=ast.Name(id=target_name), op=op, value=added) if target_name == name:
                old = _assigned(name, earlier, depth + 1)
                return OPERATORS[type(op)](old, evaluate(added, earlier, depth + 1))
            case ast.FunctionDef() | ast.ClassDef():
                continue
        # Set in another way: which side of a branch runs, or how often a loop does, is not known.
        if name in _stored(node):
            break
    raise UnknownValueError(name)


def _given(name: str, attribute: str, before: Sequence[Statement], depth: int) -> Any:
    """What an object was made with under an attribute's name, as configurations keep it."""
    for i in range(len(before) - 1, -1, -1):
        match before[i].node:
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id=target), attr=key)], value=assigned) if (
                target == name and key == attribute
            ):
                return evaluate(assigned, before[:i], depth + 1)
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Call(func=made, keywords=keywords)) if (
                target == name
            ):
                for keyword in keywords:
                    if keyword.arg == attribute:
                        return evaluate(keyword.value, before[:i], depth + 1)
                if isinstance(made, ast.Name) and made.id != name:
                    return _given(made.id, attribute, before[:i], depth)
                break
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Name(id=other)) if target == name != other:
                return _given(other, attribute, before[:i], depth)
            case ast.ClassDef(name=target) as kind if target == name:
                return _field(kind, attribute, before[:i], depth)
    raise UnknownValueError(f"{name}.{attribute}")


def _field(kind: ast.ClassDef, attribute: str, before: Sequence[Statement], depth: int) -> Any:
    """What a class gives its instances under a name, where nothing else is said."""
    own = [node for node in kind.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    for node in kind.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            own += [each for each in node.body if isinstance(each, ast.Assign | ast.AnnAssign)]
    for node in reversed(own):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if attribute in {ast.unparse(each).removeprefix("self.") for each in targets} and node.value is not None:
            value: ast.expr = node.value
            if isinstance(value, ast.Call) and ast.unparse(value.func).endswith("field"):
                given = {keyword.arg: keyword.value for keyword in value.keywords}
                made = given.get("default_factory")
                value = given.get("default") or (made.body if isinstance(made, ast.Lambda) else value)
            fields = [Statement(node=each, text="", place="") for each in own[: own.index(node)]]
            return evaluate(value, [*before, *fields], depth + 1)
    raise UnknownValueError(f"{kind.name}.{attribute}")


def _either(parts: Sequence[ast.expr], value: Callable[[ast.expr], Any]) -> Any:
    """What `or` comes to: nothing behind the first that holds is looked at."""
    found: Any = None
    for part in parts:
        found = value(part)
        if found:
            break
    return found


def _stored(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
