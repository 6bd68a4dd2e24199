"""Holding what this project loads itself to this machine, and nothing else."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "HF_HUB_OFFLINE"
SWITCHES = ("huggingface_hub.constants", "datasets.config")
"""Modules that keep under this name what the environment said when they were imported."""


@contextmanager
def hub_offline(wanted: bool) -> Iterator[None]:
    """Asks no hub for anything in this context, if that is wanted; afterwards, all is as it was.

    A process that is offline for good would refuse a reward its judge model or its data.
    """
    if not wanted:
        yield
        return
    # Imported now: one that were first imported in this context would keep the setting.
    modules = [importlib.import_module(name) for name in SWITCHES]
    was, kept = os.environ.get(VARIABLE), [getattr(module, VARIABLE) for module in modules]
    os.environ[VARIABLE] = "1"
    for module in modules:
        setattr(module, VARIABLE, True)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE) if was is None else os.environ.update({VARIABLE: was})
        for module, value in zip(modules, kept, strict=True):
            setattr(module, VARIABLE, value)
