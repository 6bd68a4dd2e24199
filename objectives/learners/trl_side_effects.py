"""What building TRL's trainer does to a worker beside building it, undone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher of several processes tells each of them by."""


@contextmanager
def undone(model: Any) -> Iterator[None]:
    """Leaves the process's environment and the format of a model's trained weights as they were.

    Where Unsloth has made TRL 1.13 use vLLM, the trainer names its process as a launcher would. Accelerate 1.15 would
    take the worker for one of several from the next trial on.

    On a base in 4 bits it rounds adapters to bfloat16, where updates of a GRPO step's size are lost.
    """
    environment = {name: os.environ.get(name) for name in LAUNCHER}
    trained = [(parameter, parameter.data) for parameter in model.parameters() if parameter.requires_grad]
    try:
        yield
    finally:
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for parameter, data in trained:
            if parameter.dtype != data.dtype:
                parameter.data = data
