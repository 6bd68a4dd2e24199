"""The source files that a study's own code consists of: the modules it names, and what they import of the user's."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from objectives.errors import TaskError

OURS = {"sweep", "objectives", "studies"}
"""Packages of this project, which may lie in the working folder and are not the user's."""


def find_module(name: str, folders: Sequence[Path]) -> Path | None:
    """The source file of a user's module, without importing it; None where it is in none of the folders."""
    parts = name.split(".")
    for folder in folders:
        for candidate in (folder.joinpath(*parts).with_suffix(".py"), folder.joinpath(*parts, "__init__.py")):
            if candidate.is_file():
                return candidate
    return None


def read_module(source: Path, wanted: str) -> ast.Module:
    """A module's source as a tree.

    Args:
        source: The file.
        wanted: What it was looked for, for messages.

    Raises:
        TaskError: where it cannot be parsed.
    """
    try:
        # Bytes, so that a coding line counts.
        return ast.parse(source.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError) as error:
        raise TaskError(f"{wanted}: {source} cannot be read: {error}") from error


def own_sources(modules: Sequence[str], folders: Sequence[Path]) -> dict[str, Path]:
    """Source files by module: those named, and the user's modules that they import, and so on.

    Raises:
        TaskError: where one cannot be read.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] in OURS:
            continue
        if (source := find_module(name, folders)) is None:
            continue
        found[name] = source
        waiting += _imported(read_module(source, name), name, is_package=source.name == "__init__.py")
    return found


def _imported(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[str]:
    """Every name that may be a module which this one imports, and the packages that it lies in."""
    yield from _parents(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from (*_parents(alias.name), alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: None if is_package else -1]
                above = above[: len(above) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            if base:
                yield from (*_parents(base), base)
            # What is imported from a package may be a module of it.
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]
