"""What a function that no module holds is known by: its source, and all that it uses of its notebook."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
"""Where an object lies, which its text may tell and which differs in every process."""
ATOMS = (str, bytes, int, float, complex, bool, type(None))


def digest(function: Any) -> str:
    """The SHA-256 of a function's source, and of the values and functions that it uses."""
    found = hashlib.sha256()
    for part in _parts(function, seen={}):
        found.update(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part)
        # Or two parts could run together into what another two come to.
        found.update(b"\0")
    return found.hexdigest()


def _parts(value: Any, *, seen: dict[int, Any]) -> Iterator[str | bytes]:
    if isinstance(value, ATOMS):
        yield repr(value)
        return
    if id(value) in seen:
        return
    look = functools.partial(_parts, seen=seen)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        yield type(value).__qualname__ + str(len(value))
        seen[id(value)] = value  # within itself alone: what occurs twice counts twice
        yield from _within(value, seen)
        del seen[id(value)]
        return
    seen[id(value)] = value  # kept, so that nothing else gets its id
    if isinstance(value, FunctionType):
        yield from _function(value, seen)
    elif isinstance(value, type):
        yield _source(value, otherwise=value.__qualname__)
    elif isinstance(value, MethodType):
        yield from look((value.__func__, value.__self__))
    elif isinstance(value, functools.partial):
        yield from look((value.func, value.args, value.keywords))
    elif (content := _data(value)) is not None:
        yield from look(content) if not isinstance(content, bytes) else [content]
    elif callable(value) or not any("__repr__" in vars(kind) for kind in type(value).__mro__[:-1]):
        yield _source(type(value), otherwise=type(value).__qualname__)
        yield from look(_attributes(value))
    else:
        yield ADDRESS.sub("", repr(value))


def _function(function: FunctionType, seen: dict[int, Any]) -> Iterator[str | bytes]:
    yield _source(function, otherwise=function.__code__.co_code.hex())
    used = {name: function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            used[name] = cell.cell_contents
        except ValueError:  # not given a value yet
            continue
    given = {"defaults": function.__defaults__, "keyword defaults": function.__kwdefaults__}
    for name, other in (*sorted(used.items()), *given.items()):
        code = isinstance(other, FunctionType | type)
        # Modules are left out: installed ones have a version, the user's own a hash of their file.
        if other is not None and not isinstance(other, ModuleType) and not (code and _is_foreign(other, function)):
            yield name
            yield from _parts(other, seen=seen)


def _is_foreign(code: Any, function: FunctionType) -> bool:
    """Whether it was defined in another module, whose file or version is known by itself."""
    return bool(code.__module__ != function.__module__)


def _within(value: Mapping[Any, Any] | Iterable[Any], seen: dict[int, Any]) -> Iterator[str | bytes]:
    if isinstance(value, set | frozenset):
        value = sorted(value, key=repr)  # in an order that every process gives it
    for item in value.items() if isinstance(value, Mapping) else value:
        for each in item if isinstance(value, Mapping) else (item,):
            yield from _parts(each, seen=seen)


def _data(value: Any) -> Any:
    """The whole content of arrays, frames and data sets, whose text leaves most of it out; None for anything else."""
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):
        whole = value.tolist() if value.dtype.hasobject else value.tobytes()
        return (str(value.dtype), tuple(value.shape), whole)
    if hasattr(value, "to_dict") and (hasattr(value, "columns") or hasattr(value, "index")):
        return value.to_dict("list") if hasattr(value, "columns") else value.to_dict()
    return value.to_list() if hasattr(value, "to_list") and hasattr(value, "column_names") else None


def _attributes(value: Any) -> dict[str, Any]:
    slots = [name for kind in type(value).__mro__ for name in _listed(getattr(kind, "__slots__", ()))]
    found = {
        name: getattr(value, name) for name in slots if name not in ("__dict__", "__weakref__") and hasattr(value, name)
    }
    return dict(sorted((found | getattr(value, "__dict__", {})).items()))


def _listed(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _source(value: Any, *, otherwise: str) -> str:
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        return otherwise


def _names(code: CodeType) -> set[str]:
    """Every global name that a function's code may use, functions within it included."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(_names, inner))
