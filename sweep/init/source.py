"""A notebook or script as a list of top-level statements, in the order in which they would run."""

from __future__ import annotations

import ast
import io
import json
import re
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweep.errors import UsageError

FOREIGN_CELL = re.compile(r"^\s*%%(?!capture|time|timeit|prun)")
"""Cell magics whose cell is no Python, as `%%bash` or `%%writefile`."""
SHELL = re.compile(r"^(\s*)[!%?]|^(\s*)[A-Za-z_]\w*\s*=\s*[!%]")
"""Lines that only a notebook understands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A top-level statement, with its text as it was written, and where it stands."""

    node: ast.stmt
    text: str
    place: str
    """As `cell 3` or `line 12`."""
    lines: Sequence[str] = ()
    """Those that the positions in `node` count from; none where it was not written so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What was read. `unread` names the parts that are no Python of this version."""

    path: Path
    statements: tuple[Statement, ...]
    text: str
    unread: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())
    """What its reader should know about how it was followed."""


def read_source(path: Path) -> Source:
    """Reads a notebook (.ipynb) or a script (.py).

    Raises:
        UsageError: where it cannot be read, or is neither.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows' editors begin files with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    if path.suffix == ".ipynb":
        return _from_cells(path, _cells(path, text))
    if path.suffix == ".py":
        return _from_cells(path, [text], counted="line")
    raise UsageError(f"{path}: neither a notebook nor a script; allowed: .ipynb, .py")


def _cells(path: Path, text: str) -> list[str]:
    try:
        cells = json.loads(text)["cells"]
        # A cell's source is a text or a list of lines: joined, both are a text.
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: no Jupyter notebook of format 4: {error}") from error


def _from_cells(path: Path, cells: list[str], *, counted: str = "cell") -> Source:
    statements: list[Statement] = []
    unread = []
    for number, cell in enumerate(map(_as_python_reads, cells), start=1):
        if FOREIGN_CELL.match(cell):
            continue
        python = _without_shell(cell) if counted == "cell" else cell
        try:
            tree = ast.parse(python)
        # A cell in another syntax must not hide the rest of a notebook; it is listed as not read.
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", None)
            where = f"cell {number}" if counted == "cell" else f"{path.name}"
            why = getattr(error, "msg", error)
            if isinstance(error, MemoryError | RecursionError):  # Python's own way to say so, often without a word
                why = "nested too deep"
            unread.append(f"{where}{f', line {line}' if line else ''}: {why}")
            continue
        lines = python.split("\n")
        for node in tree.body:
            place = f"cell {number}" if counted == "cell" else f"line {node.lineno}"
            statements += _flattened(node, lines, place)
    return Source(path=path, statements=tuple(statements), text="\n".join(cells), unread=tuple(unread))


def _as_python_reads(text: str) -> str:
    r"""A text whose lines all end in `\n`, as Python's parser makes it; it counts lines by nothing else.

    `str.splitlines` would cut at form feeds and other separators too, which may stand within a string.
    """
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _without_shell(cell: str) -> str:
    """A cell whose shell and magic lines do nothing, continuations included."""
    kept, skipping = [], False
    for line in cell.split("\n"):
        if skipping:
            skipping = line.rstrip().endswith("\\")
            kept.append("")
        elif (found := SHELL.match(line)) is not None:
            skipping = line.rstrip().endswith("\\")
            # `pass`, not nothing: a shell line may be all that an `if` holds.
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
    yield Statement(node=node, text=text_of(node, lines), place=place, lines=lines)


def text_of(node: ast.stmt, lines: Sequence[str]) -> str:
    """A statement's own lines, with the comments right above it, moved to the left edge."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(each.lineno for each in decorators)]) - 1
    start = first
    while start > 0 and lines[start - 1].strip().startswith("#"):
        start -= 1
    last = node.end_lineno or node.lineno
    own = [*lines[start:first], *lines[first:last]]
    text = textwrap.dedent("\n".join(own))
    return text if _reads_as(text, node) else ast.unparse(node)


def _reads_as(text: str, node: ast.stmt) -> bool:
    """Whether a text is that statement alone: several may share a line, and the lines of a string may have moved."""
    try:
        return [ast.dump(each) for each in ast.parse(text).body] == [ast.dump(node)]
    except SyntaxError:
        return False


def indented(text: str) -> str:
    """Python's text one level further in; lines within a string stay as they are."""
    inside: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING or tokenize.tok_name[token.type].startswith("FSTRING"):
            inside.update(range(token.start[0] + 1, token.end[0] + 1))
    lines = text.split("\n")
    return "\n".join(
        line if number in inside or not line.strip() else f"    {line}" for number, line in enumerate(lines, start=1)
    )
