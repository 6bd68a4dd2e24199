"""A notebook or script as a list of top-level statements, in the order in which they would run."""

from __future__ import annotations

import ast
import io
import json
import re
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sweep.errors import StudyFileError

FOREIGN_CELL = re.compile(r"^\s*%%(?!capture|time|timeit|prun)")
"""Cell magics whose cell is no Python, as `%%bash` or `%%writefile`."""
SHELL = re.compile(r"^(\s*)[!%?]|^(\s*)[A-Za-z_]\w*\s*=\s*[!%]")
"""Lines that only a notebook understands."""

DEEPEST = 4
"""Functions that train within functions that train."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A top-level statement, with its text as it was written, and where it stands."""

    node: ast.stmt
    text: str
    place: str
    """As `cell 3` or `line 12`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What was read. `unread` names the parts that are no Python of this version."""

    path: Path
    statements: tuple[Statement, ...]
    text: str
    unread: tuple[str, ...] = field(default=())


def read_source(path: Path) -> Source:
    """Reads a notebook (.ipynb) or a script (.py).

    Raises:
        StudyFileError: where it cannot be read, or is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyFileError(f"{path}: cannot be read: {error}") from error
    if path.suffix == ".ipynb":
        return _from_cells(path, _cells(path, text))
    if path.suffix == ".py":
        return _from_cells(path, [text], counted="line")
    raise StudyFileError(f"{path}: neither a notebook nor a script; allowed: .ipynb, .py")


def _cells(path: Path, text: str) -> list[str]:
    try:
        cells = json.loads(text)["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StudyFileError(f"{path}: no Jupyter notebook of format 4: {error}") from error


def _from_cells(path: Path, cells: list[str], *, counted: str = "cell") -> Source:
    statements: list[Statement] = []
    unread = []
    for number, cell in enumerate(cells, start=1):
        if FOREIGN_CELL.match(cell):
            continue
        python = _without_shell(cell) if counted == "cell" else cell
        try:
            tree = ast.parse(python)
        except (SyntaxError, ValueError, RecursionError) as error:
            line = getattr(error, "lineno", None)
            where = f"cell {number}" if counted == "cell" else f"{path.name}"
            unread.append(f"{where}{f', line {line}' if line else ''}: {getattr(error, 'msg', error)}")
            continue
        lines = python.splitlines()
        for node in tree.body:
            place = f"cell {number}" if counted == "cell" else f"line {node.lineno}"
            statements += _flattened(node, lines, place)
    return Source(path=path, statements=tuple(_inlined(statements)), text="\n".join(cells), unread=tuple(unread))


def _without_shell(cell: str) -> str:
    """A cell whose shell and magic lines do nothing, continuations included."""
    kept, skipping = [], False
    for line in cell.splitlines():
        if skipping:
            skipping = line.rstrip().endswith("\\")
            kept.append("")
        elif (found := SHELL.match(line)) is not None:
            skipping = line.rstrip().endswith("\\")
            kept.append(f"{found[1] or found[2] or ''}pass")
        else:
            kept.append(line)
    return "\n".join(kept)


def _flattened(node: ast.stmt, lines: list[str], place: str) -> Iterator[Statement]:
    """A statement; what stands under `if __name__ == "__main__":` as if it stood at the top."""
    if isinstance(node, ast.If) and "__name__" in ast.dump(node.test):
        for inner in node.body:
            yield from _flattened(inner, lines, place)
        return
    yield Statement(node=node, text=_text(node, lines), place=place)


def _text(node: ast.stmt, lines: list[str]) -> str:
    """A statement's own lines, with the comments right above it, moved to the left edge."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(each.lineno for each in decorators)]) - 1
    start = first
    while start > 0 and lines[start - 1].strip().startswith("#"):
        start -= 1
    last = node.end_lineno or node.lineno
    own = [*lines[start:first], *lines[first:last]]
    # Several statements may share a line: then it takes the parser's word for this one.
    if node.end_col_offset is not None and lines[last - 1][node.end_col_offset :].lstrip().startswith(";"):
        return ast.unparse(node)
    if lines[first][: node.col_offset].strip() and not decorators:
        return ast.unparse(node)
    text = textwrap.dedent("\n".join(own))
    try:
        ast.parse(text)
    except SyntaxError:  # a string over several lines reaches further to the left than the statement
        return ast.unparse(node)
    return text


def indented(text: str) -> str:
    """Python's text one level further in; lines within a string stay as they are."""
    inside: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING or tokenize.tok_name[token.type].startswith("FSTRING"):
            inside.update(range(token.start[0] + 1, token.end[0] + 1))
    lines = text.splitlines()
    return "\n".join(
        line if number in inside or not line.strip() else f"    {line}" for number, line in enumerate(lines, start=1)
    )


def _inlined(statements: list[Statement]) -> Iterator[Statement]:
    """Statements, with a call of a function that trains replaced by what the function does."""
    functions = {each.node.name: each for each in statements if isinstance(each.node, ast.FunctionDef)}
    training = {name for name, each in functions.items() if "Trainer(" in each.text}
    while more := {
        name
        for name, each in functions.items()
        if name not in training and any(re.search(rf"\b{inner}\(", each.text) for inner in training)
    }:
        training |= more
    for statement in statements:
        call = _only_call(statement.node)
        if call is not None and _name(call) in training:
            yield from _body(functions, training, call, depth=0)
        elif not (isinstance(statement.node, ast.FunctionDef) and statement.node.name in training):
            yield statement


def _body(functions: dict[str, Statement], training: set[str], call: ast.Call, *, depth: int) -> Iterator[Statement]:
    """What a call of a training function does: its arguments by their names, then its statements."""
    function = functions[_name(call)]
    lines = function.text.splitlines()
    inner = ast.parse(function.text).body[0]
    if not isinstance(inner, ast.FunctionDef) or depth > DEEPEST:
        return
    given = dict(zip((each.arg for each in inner.args.args), call.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    for name, value in given.items():
        if not (isinstance(value, ast.Name) and value.id == name):
            text = f"{name} = {ast.unparse(value)}"
            yield Statement(node=ast.parse(text).body[0], text=text, place=function.place)
    for each in inner.body:
        nested = _only_call(each)
        if nested is not None and _name(nested) in training:
            yield from _body(functions, training, nested, depth=depth + 1)
        else:
            yield Statement(node=each, text=_text(each, lines), place=function.place)


def _only_call(node: ast.stmt) -> ast.Call | None:
    """The call of a function by its name that a statement consists of."""
    value = node.value if isinstance(node, ast.Expr) else None
    return value if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) else None


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""
