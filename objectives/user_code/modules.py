"""The user's own code and files, which run and open only because a study names them."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from objectives.errors import TaskError
from objectives.user_code.scripts import find_script
from objectives.user_code.sources import find_module, own_sources, read_module


def check_reference(reference: str, folders: Sequence[Path]) -> None:
    """Checks that `module:name` exists, and that importing it runs no script, by its source: nothing is imported.

    A module that lies in none of the folders may be an installed one, and is found out when it is imported.

    Raises:
        TaskError: where the module cannot be parsed, is a script, or does not define the name.
    """
    module, _, name = reference.partition(":")
    source = find_module(module, folders)
    if source is None:
        if not _is_installed(module):
            looked = ", ".join(str(folder) for folder in folders)
            raise TaskError(f"{reference}: no module {module!r}; looked in {looked}, and among installed packages")
        return
    for path in own_sources([module], folders).values():
        if script := find_script(read_module(path, reference)):
            line, what = script
            raise TaskError(
                f"{reference}: importing {path} runs a script: line {line} {what}; move the functions to a module of "
                'their own, or put the script under `if __name__ == "__main__":`'
            )
    names = _defined_names(read_module(source, reference))
    # A star import may define the name: only importing it would tell.
    if name not in names and "*" not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TaskError(f"{reference}: {source} defines no {name!r}{hint}")


def find_parameters(reference: str, folders: Sequence[Path]) -> dict[str, Any] | None:
    """What a reward function can be called with, by its source, as `check_parameters` takes it.

    None where the source does not tell: it is no plain function, or defined more than once, or not the user's.
    """
    module, _, name = reference.partition(":")
    if (source := find_module(module, folders)) is None:
        return None
    tree = read_module(source, reference)
    functions = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name and not node.decorator_list
    ]
    # Defined twice, or rebound: the source alone does not say which holds.
    if len(functions) != 1 or _defined_names(tree).count(name) != 1:
        return None
    given = functions[0].args
    ordered, named = [*given.posonlyargs, *given.args], given.kwonlyargs
    required = ordered[: len(ordered) - len(given.defaults)]
    required += [own for own, default in zip(named, given.kw_defaults, strict=True) if default is None]
    return {
        "required": [parameter.arg for parameter in required],
        "by_position": [parameter.arg for parameter in given.posonlyargs if parameter in required],
        "accepted": [parameter.arg for parameter in [*ordered, *named]],
        "takes_any": given.kwarg is not None,
    }


def _is_installed(module: str) -> bool:
    """Whether a module's package can be imported, found without importing it."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ValueError, ImportError):
        return False


def load_reference(reference: str, folders: Sequence[Path]) -> Any:
    """Imports what `module:name` names. This runs the user's module.

    Raises:
        TaskError: where it cannot be imported.
    """
    module, _, name = reference.partition(":")
    # Behind everything installed: a file of the user's that is called datasets.py must not replace that package.
    sys.path += [str(folder) for folder in folders if str(folder) not in sys.path]
    try:
        loaded = importlib.import_module(module)
        _check_origin(loaded, find_module(module, folders), reference)
        return getattr(loaded, name)
    except TaskError:
        raise
    except SystemExit as error:
        raise TaskError(
            f"{reference}: importing {module} runs a script, and it ended with exit code {error.code}; move its "
            "functions to a module of their own"
        ) from error
    except BaseException as error:
        raise TaskError(
            f"{reference} cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def _check_origin(loaded: Any, source: Path | None, reference: str) -> None:
    """Checks that the user's own file was imported, and not an installed module of the same name."""
    if source is not None and Path(str(loaded.__file__)).resolve() != source.resolve():
        raise TaskError(f"{reference}: {source} has the name of the module {loaded.__file__}; give it another")


def find_file(name: str, folders: Sequence[Path]) -> Path:
    """A data file, or folder of data, that a study names, in the first folder that has it.

    Raises:
        TaskError: where none has.
    """
    for folder in [Path()] if Path(name).is_absolute() else folders:
        if (folder / name).exists():
            return folder / name
    looked = ", ".join(str(folder) for folder in folders)
    raise TaskError(f"no file {name!r}; looked in {looked}")


def _defined_names(tree: ast.Module) -> list[str]:
    """Every name that a module's source may define at its top level; `*` where it imports an unknown set."""
    names: list[str] = []
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)  # what is defined within is not the module's
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            names += [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
        waiting += ast.iter_child_nodes(node)
    return names
