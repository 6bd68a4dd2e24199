"""What adapters cost under a ceiling: the memory question, answered for any model without a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from objectives.errors import ModelConfigError
from objectives.memory.config_files import find_config
from objectives.memory.exact import EngineMemory, engine_memory, textbook_bytes
from objectives.memory.footprint import EngineKind, reserves
from objectives.memory.shape import ModelShape, read_shape
from objectives.settings.number_formats import DType
from sweep.errors import StudyFileError
from sweep.study.ceilings import engine_ceiling, permitted_ceilings


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """A base model, known from its config.json alone."""

    name: str
    config: Path
    shape: ModelShape

    def as_json(self) -> dict[str, Any]:
        """Name, file and sizes."""
        shape = self.shape
        return {
            "name": self.name,
            "config": str(self.config),
            "model_type": shape.model_type,
            "parameters": shape.parameters,
            "layers": shape.layers,
            "hidden": shape.hidden,
            "heads": shape.heads,
            "kv_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "feed_forward": shape.feed_forward,
            "vocab": shape.vocab,
            "tied": shape.tied,
            "dtype": shape.dtype,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingMemory:
    """One ceiling that vLLM permits. Both figures are to the byte."""

    max_lora_rank: int
    restricted_bytes: int
    """Of an engine that is restricted to the target modules, as this project starts it."""
    unrestricted_bytes: int
    """Of an engine that is not, as Unsloth starts it on a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterPlan:
    """What a vLLM engine reserves for adapters."""

    max_lora_rank: int
    engine_max_lora_rank: int
    max_loras: int
    dtype: DType
    restricted: EngineMemory
    unrestricted: EngineMemory
    textbook_bytes: int
    ceilings: tuple[CeilingMemory, ...]

    def bytes_at(self, ceiling: int, engine: EngineKind) -> int:
        """What an engine of this kind reserves under a ceiling that vLLM permits."""
        if not reserves(engine):
            return 0
        row = next(row for row in self.ceilings if row.max_lora_rank == ceiling)
        return row.restricted_bytes if engine == "vllm" else row.unrestricted_bytes

    def as_json(self) -> dict[str, Any]:
        """The ceiling, both engines by module, and the textbook formula beside them."""
        return {
            "max_lora_rank": self.max_lora_rank,
            "engine_max_lora_rank": self.engine_max_lora_rank,
            "max_loras": self.max_loras,
            "dtype": self.dtype,
            "restricted_bytes": self.restricted.bytes,
            "unrestricted_bytes": self.unrestricted.bytes,
            "textbook_bytes": self.textbook_bytes,
            "restricted_modules": _modules(self.restricted),
            "unrestricted_modules": _modules(self.unrestricted),
            "ceilings": [asdict(ceiling) for ceiling in self.ceilings],
        }


def plan_model(name: str) -> ModelPlan:
    """Finds and reads a model's config.json.

    Raises:
        StudyFileError: where there is none, or none that memory can be planned for.
    """
    try:
        return read_model(name)
    except ModelConfigError as error:
        raise StudyFileError(f"model: {error}") from error


def read_model(name: str) -> ModelPlan:
    """The same, with what is wrong told apart.

    Raises:
        UnknownModelError: where its config.json is not here, or of a family without a plan.
        ModelConfigError: where there can be none, or it cannot be read.
    """
    config = find_config(name)
    return ModelPlan(name=name, config=config, shape=read_shape(config))


def plan_adapters(
    shape: ModelShape, *, max_lora_rank: int, max_loras: int, dtype: DType, target_modules: Sequence[str]
) -> AdapterPlan:
    """Adapter memory under this ceiling and under every other that vLLM permits.

    Raises:
        StudyFileError: where no permitted ceiling is high enough, or a target module is not in the model.
    """
    ceiling = engine_ceiling(max_lora_rank)

    def memory(at: int, targets: Sequence[str] | None) -> EngineMemory:
        return engine_memory(shape, max_lora_rank=at, max_loras=max_loras, dtype=dtype, target_modules=targets)

    try:
        return AdapterPlan(
            max_lora_rank=max_lora_rank,
            engine_max_lora_rank=ceiling,
            max_loras=max_loras,
            dtype=dtype,
            restricted=memory(ceiling, target_modules),
            unrestricted=memory(ceiling, None),
            textbook_bytes=textbook_bytes(shape, ceiling, dtype),
            ceilings=tuple(
                CeilingMemory(
                    max_lora_rank=other,
                    restricted_bytes=memory(other, target_modules).bytes,
                    unrestricted_bytes=memory(other, None).bytes,
                )
                for other in permitted_ceilings()
            ),
        )
    except ModelConfigError as error:
        raise StudyFileError(f"model: {error}") from error


def _modules(memory: EngineMemory) -> list[dict[str, Any]]:
    return [
        {"name": m.name, "count": m.count, "a_bytes": m.a_bytes, "b_bytes": m.b_bytes, "bytes": m.bytes}
        for m in memory.modules
    ]
