"""The part of a source that some names need: a backward slice over its top-level statements."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Sequence

from sweep.init.source import Statement

COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try)
MUTATORS = {"append", "extend", "insert", "update", "add", "setdefault", "sort", "pop", "remove", "seed", "register"}
"""Methods whose call changes what it is called on, so that a bare call is more than a print."""


def needed_by(names: set[str], statements: Sequence[Statement]) -> tuple[list[Statement], set[str]]:
    """The statements that these names need once all have run, in their order, and the names that nothing defines.

    A name that a function uses is looked up when it is called, so it counts as needed at the end.
    """
    late = set(names)
    # Functions may use each other in any order, so names are gathered until none is new.
    while True:
        kept, missing, more = _backwards(late, statements)
        if more <= late:
            return kept, missing
        late |= more


def _backwards(names: set[str], statements: Sequence[Statement]) -> tuple[list[Statement], set[str], set[str]]:
    """One pass: what is kept, what is missing, and the names that kept functions use."""
    live, kept, late = set(names), [], set()
    for statement in reversed(statements):
        node = statement.node
        if not _touches(node, live):
            continue
        kept.append(statement)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            live.discard(node.name)
            outside = free_names(node)
            late |= outside
            live |= outside
            continue
        if _defines_afresh(node):
            live -= defined(node)
        late |= {name for inner in _functions_in(node) for name in free_names(inner)}
        live |= free_names(node)
    # A loop or a branch reads what it has bound itself.
    own = {name for each in kept if isinstance(each.node, COMPOUND) for name in defined(each.node)}
    return kept[::-1], live - own, late


def _touches(node: ast.stmt, live: set[str]) -> bool:
    """Whether a statement defines or changes something that is needed."""
    if isinstance(node, ast.Delete | ast.Global | ast.Pass):
        return False
    if defined(node) & live:
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        return isinstance(called, ast.Attribute) and called.attr in MUTATORS and _root(called.value) in live
    return bool({_root(target) for target in _item_targets(node)} & live)


def defined(node: ast.AST) -> set[str]:
    """The names that a statement binds at its own level."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=aliases):
            return {alias.asname or alias.name.partition(".")[0] for alias in aliases}
        case ast.ImportFrom(names=aliases):
            return {alias.asname or alias.name for alias in aliases}
    names: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            names.add(child.id)
        elif not isinstance(child, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            names |= defined(child)
    return names


def free_names(node: ast.AST) -> set[str]:
    """The names that a statement or expression reads from outside itself, built-in ones left out."""
    # Python's own scoping: comprehensions, lambdas and nonlocal names are as it sees them.
    table = symtable.symtable(ast.unparse(node), "<source>", "exec")
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    names = own.union(*(_global_names(child) for child in table.get_children()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        names.discard(node.name)
    return names - set(dir(builtins))


def _global_names(table: symtable.SymbolTable) -> set[str]:
    """The names that a function or class, and those within it, look up in the module."""
    own = {each.get_name() for each in table.get_symbols() if each.is_global()}
    return own.union(*(_global_names(child) for child in table.get_children()))


def _functions_in(node: ast.AST) -> list[ast.FunctionDef | ast.Lambda]:
    return [each for each in ast.walk(node) if isinstance(each, ast.FunctionDef | ast.Lambda)]


def _defines_afresh(node: ast.stmt) -> bool:
    """Whether a statement surely replaces what its names stood for; a branch or a loop may not."""
    return isinstance(node, ast.Assign | ast.AnnAssign | ast.Import | ast.ImportFrom | ast.With) and not _item_targets(
        node
    )


def _item_targets(node: ast.AST) -> list[ast.expr]:
    """Attributes and items that a statement sets, as in `tokenizer.chat_template = ...`."""
    return [
        each
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute | ast.Subscript) and isinstance(each.ctx, ast.Store)
    ]


def _root(node: ast.expr) -> str | None:
    """The name that a chain of attributes, items and calls starts from."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
