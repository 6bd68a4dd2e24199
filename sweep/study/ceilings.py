"""The adapter ceilings that vLLM permits, without importing vLLM."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

from sweep.errors import StudyFileError

KNOWN_CEILINGS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""`vllm.config.lora.MaxLoRARanks` of vLLM 0.32, for machines without vLLM."""


@cache
def permitted_ceilings() -> tuple[int, ...]:
    """The values of `max_lora_rank` that the installed vLLM accepts, in ascending order.

    Importing vLLM for them would take seconds and load torch, so its source is parsed instead.
    """
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        return KNOWN_CEILINGS
    source = Path(spec.origin).parent / "config" / "lora.py"
    return _literal_values(source.read_text(), "MaxLoRARanks") if source.is_file() else KNOWN_CEILINGS


def engine_ceiling(max_lora_rank: int) -> int:
    """The smallest permitted ceiling that holds adapters of this rank.

    Raises:
        StudyFileError: where no permitted ceiling does.
    """
    allowed = permitted_ceilings()
    for ceiling in allowed:
        if ceiling >= max_lora_rank:
            return ceiling
    raise StudyFileError(
        f"model.max_lora_rank={max_lora_rank} exceeds every ceiling that vLLM permits; allowed: up to {allowed[-1]}"
    )


def _literal_values(source: str, name: str) -> tuple[int, ...]:
    """The integers of `name = Literal[...]`."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == [name]:
            return tuple(
                sorted(
                    n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant) and isinstance(n.value, int)
                )
            )
    return KNOWN_CEILINGS
