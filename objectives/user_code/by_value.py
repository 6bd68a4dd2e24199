"""Functions that no module holds, as a notebook's: sent to a worker by value, and known by their source."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from objectives.user_code.digests import digest

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
    digests = {f"{MODULE}:{name}": digest(function) for name, function in functions.items()}
    return ByValue(pickled=pickled, digests=digests)


def receive_by_value(pickled: bytes) -> None:
    """Makes functions that came from a supervisor importable by their names."""
    import cloudpickle

    # They come from the process that started this one, over its pipe, as all of its settings do: never from a file.
    _put_in_module(cloudpickle.loads(pickled))


def _put_in_module(functions: Mapping[str, Any]) -> None:
    # References are looked up by import, and this module has no file to import.
    module = sys.modules.setdefault(MODULE, ModuleType(MODULE, "Functions of a notebook."))
    # importlib.util.find_spec raises for a module without a spec.
    module.__spec__ = module.__spec__ or ModuleSpec(MODULE, None)
    vars(module).update(functions)
