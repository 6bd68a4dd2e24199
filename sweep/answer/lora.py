"""The rule and the memory question for one model and one ceiling, without a study."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from objectives.lora import LoraSpec, configure_lora_for_rl
from objectives.memory.estimates import four_bit_weight_bytes
from objectives.memory.exact import TrainerMemory, base_weight_bytes, trainer_memory
from objectives.settings.number_formats import DType
from sweep.planning.adapters import AdapterPlan, ModelPlan, plan_adapters, plan_model


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraAnswer:
    """The adapter to start from, and what it and its ceiling hold in memory."""

    task_complexity: str
    model: ModelPlan
    lora: LoraSpec
    adapters: AdapterPlan
    trainer: TrainerMemory

    def as_json(self) -> dict[str, Any]:
        """What `sweep lora --json` prints."""
        lora, shape, dtype = self.lora, self.model.shape, self.adapters.dtype
        return {
            "model": self.model.as_json(),
            "lora": {
                "task_complexity": self.task_complexity,
                "r": lora.r,
                "alpha": lora.alpha,
                "target_modules": list(lora.target_modules),
                "scaling": lora.scaling,
            },
            "engine": self.adapters.as_json(),
            "trainer": asdict(self.trainer) | {"bytes": self.trainer.bytes},
            "base": {
                "parameters": shape.parameters,
                "bytes": base_weight_bytes(shape, dtype),
                "four_bit_bytes_estimate": four_bit_weight_bytes(shape, dtype),
            },
        }


def answer_lora(
    name: str, *, max_lora_rank: int, task_complexity: str, max_loras: int, dtype: DType | None
) -> LoraAnswer:
    """Applies the rule to a model and a ceiling.

    Args:
        name: The model, as a study names it.
        max_lora_rank: The ceiling asked for.
        task_complexity: As of `configure_lora_for_rl`.
        max_loras: Adapters in one batch of the engine.
        dtype: The engine's number format; None for the model's own.

    Raises:
        StudyFileError: where the model cannot be planned for, or vLLM permits no ceiling so high.
    """
    model = plan_model(name)
    lora = configure_lora_for_rl(max_lora_rank, task_complexity)
    adapters = plan_adapters(
        model.shape,
        max_lora_rank=max_lora_rank,
        max_loras=max_loras,
        dtype=dtype or model.shape.dtype,
        target_modules=lora.target_modules,
    )
    return LoraAnswer(
        task_complexity=task_complexity,
        model=model,
        lora=lora,
        adapters=adapters,
        trainer=trainer_memory(model.shape, lora.r, lora.target_modules),
    )
