"""Functions that no module holds, as a notebook's: sent to a worker by value, and known by their source."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import CodeType, FunctionType, ModuleType
from typing import Any

MODULE = "notebook_cells"
"""The module that they seem to lie in: a study names them `notebook_cells:name`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByValue:
    """Functions on their way to a worker."""

    pickled: bytes = field(repr=False)
    digests: Mapping[str, str]
    """The SHA-256 of each one's source and of what it uses of its notebook, by `notebook_cells:name`."""


def send_by_value(functions: Mapping[str, Any]) -> ByValue:
    """Makes functions importable here by their names, and ready to be sent.

    Raises:
        TypeError: where one holds something that cannot be sent, as an open file or a lock.
    """
    import cloudpickle

    try:
        pickled = cloudpickle.dumps(dict(functions))
    except Exception as error:
        raise TypeError(f"{', '.join(functions)}: cannot be sent to a worker: {error}") from error
    _put_in_module(functions)
    digests = {f"{MODULE}:{name}": _digest(function) for name, function in functions.items()}
    return ByValue(pickled=pickled, digests=digests)


def receive_by_value(pickled: bytes) -> None:
    """Makes functions that came from a supervisor importable by their names."""
    import cloudpickle

    # They come from the process that started this one, over its pipe, as all of its settings do: never from a file.
    _put_in_module(cloudpickle.loads(pickled))


def _put_in_module(functions: Mapping[str, Any]) -> None:
    module = sys.modules.setdefault(MODULE, ModuleType(MODULE, "Functions of a notebook."))
    module.__spec__ = module.__spec__ or ModuleSpec(MODULE, None)
    vars(module).update(functions)


def _digest(function: Any) -> str:
    digest = hashlib.sha256()
    for part in _parts(function, seen=set()):
        digest.update(part.encode())
    return digest.hexdigest()


def _parts(value: Any, *, seen: set[int]) -> Iterator[str]:
    """A value's source, or its text, and those of all that it uses of the notebook it was defined in."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, FunctionType):
        yield _source(value, otherwise=value.__code__.co_code.hex())
        used = {name: value.__globals__[name] for name in _names(value.__code__) if name in value.__globals__}
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        used |= {name: cell.cell_contents for name, cell in cells}
        for name, other in sorted(used.items()):
            if not isinstance(other, ModuleType) and getattr(other, "__module__", value.__module__) == value.__module__:
                yield name
                yield from _parts(other, seen=seen)
    elif isinstance(value, type):
        yield _source(value, otherwise=value.__qualname__)
    elif callable(value):
        yield _source(type(value), otherwise=type(value).__qualname__)
        yield repr(sorted(getattr(value, "__dict__", {}).items()))
    else:
        yield repr(value)


def _source(value: Any, *, otherwise: str) -> str:
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        return otherwise


def _names(code: CodeType) -> set[str]:
    """Every global name that a function's code may use, functions within it included."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(_names, inner))
