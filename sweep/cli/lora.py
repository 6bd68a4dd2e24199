"""`sweep lora`."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from sweep.cli.options import JsonOption


class TaskComplexity(StrEnum):
    """What the rule asks of a task."""

    HIGH = "high"
    NORMAL = "normal"


class DTypeName(StrEnum):
    """Number formats of an engine."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def lora(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model's folder, or a hub id that is in the hub cache.")
    ],
    max_lora_rank: Annotated[int, typer.Option("--max-lora-rank", min=1, help="The engine's adapter ceiling.")],
    task_complexity: Annotated[
        TaskComplexity, typer.Option("--task-complexity", help="high: the whole ceiling. normal: half of it.")
    ] = TaskComplexity.HIGH,
    max_loras: Annotated[int, typer.Option("--max-loras", min=1, help="Adapters in one batch of the engine.")] = 1,
    dtype: Annotated[
        DTypeName | None, typer.Option("--dtype", help="The engine's number format. Default: the model's own.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which adapter to start from under a ceiling, and what the ceiling costs in memory.

    A sweep finds the rank; this is the rule of thumb to use without one. Typical ranks are 32 to 64 for GRPO and 16
    to 32 for DPO. Adapter memory is exact, computed from the model's config.json alone.

    With `--json`, one object: model, lora (task_complexity, r, alpha, target_modules, scaling), engine (max_lora_rank,
    engine_max_lora_rank, max_loras, dtype, restricted_bytes, unrestricted_bytes, textbook_bytes, restricted_modules,
    unrestricted_modules, ceilings), trainer (r, parameters, adapter_bytes, gradient_bytes, optimizer_bytes, bytes) and
    base (parameters, bytes, four_bit_bytes_estimate).

    Example: `sweep lora unsloth/Llama-3.2-1B-Instruct --max-lora-rank 64`
    """
    from sweep.answer.lora import answer_lora
    from sweep.terminal.lora import lora_report

    answer = answer_lora(
        model,
        max_lora_rank=max_lora_rank,
        task_complexity=task_complexity.value,
        max_loras=max_loras,
        dtype=None if dtype is None else dtype.value,
    )
    if as_json:
        typer.echo(json.dumps(answer.as_json(), indent=2))
        return
    from rich.console import Console

    Console(highlight=False).print(lora_report(answer))
