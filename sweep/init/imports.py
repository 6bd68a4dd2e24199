"""Modules that carried-over code imports: those that are missing here, and those that lie beside its source."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from objectives.errors import TaskError
from objectives.user_code.sources import own_sources
from sweep.init.source import Statement


def missing_modules(statements: Sequence[Statement]) -> list[str]:
    """Modules that are imported, and that this machine does not have installed; found without importing them."""
    nodes = [node for statement in statements for node in ast.walk(statement.node)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    relative = {
        f"{'.' * node.level}{node.module or ''}" for node in nodes if isinstance(node, ast.ImportFrom) and node.level
    }
    # The package alone is asked for: to find a module within it, Python would import it.
    return sorted(relative | {name for name in names if not _is_installed(name.partition(".")[0])})


def modules_beside(names: Sequence[str], folder: Path) -> dict[str, str]:
    """The texts of those that lie in a folder, and of what they import from there, by their paths in it."""
    try:
        # Relative imports have no meaning in a folder of its own: they are named as missing.
        found = own_sources([name for name in names if not name.startswith(".")], [folder])
        return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in found.values()}
    except (TaskError, OSError, UnicodeDecodeError):
        return {}  # they are named as missing, which says what to do


def missing_behind(missing: Sequence[str], beside: dict[str, str]) -> list[str]:
    """Modules that are still missing once those beside a source are copied; theirs count too.

    Args:
        missing: Modules that are not installed.
        beside: What `modules_beside` found.
    """
    copied = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in beside}
    wanted = set(missing)
    for text in beside.values():
        nodes = ast.parse(text).body
        wanted |= set(missing_modules([Statement(node=node, text="", place="") for node in nodes]))
    return sorted(name for name in wanted - copied if not name.startswith(".") or not beside)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
