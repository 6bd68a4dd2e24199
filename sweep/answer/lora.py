"""The rule and the memory question for one model and one ceiling, without a study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from objectives.lora import LoraSpec, configure_lora_for_rl
from objectives.memory.estimates import four_bit_weight_bytes
from objectives.memory.exact import TrainerMemory, base_weight_bytes, trainer_memory
from objectives.settings.number_formats import DType
from sweep.planning.adapters import AdapterPlan, ModelPlan, plan_adapters, plan_model
from sweep.terminal.plan import (
    ENGINES,
    figures_table,
    model_lines,
    module_table,
    rounding_line,
    textbook_line,
    trainer_table,
)
from sweep.text import size


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


def lora_report(answer: LoraAnswer) -> RenderableType:
    """The answer as people read it, in 80 columns."""
    return Group(*_lines(answer))


def get_peft_model_call(lora: LoraSpec) -> str:
    """The call to paste."""
    names = [f'"{name}"' for name in lora.target_modules]
    return (
        "model = FastLanguageModel.get_peft_model(\n"
        f"    model, r={lora.r}, lora_alpha={lora.alpha},\n"
        f"    target_modules=[{', '.join(names[:4])},\n"
        f"                    {', '.join(names[4:])}],\n"
        ")"
    )


def _lines(answer: LoraAnswer) -> Iterator[RenderableType]:
    lora, adapters, shape = answer.lora, answer.adapters, answer.model.shape
    yield from model_lines(answer.model)
    yield Text(f"\nstart from r={lora.r}, alpha={lora.alpha} (task complexity {answer.task_complexity})", style="bold")
    yield Text(get_peft_model_call(lora))
    yield Text("\nengine: adapters", style="bold")
    yield Text(rounding_line(adapters))
    yield Text(ENGINES["unsloth"])
    yield module_table(adapters.unrestricted)
    yield Text(f"{adapters.unrestricted.bytes:,} bytes, exactly. {textbook_line(adapters, adapters.unrestricted)}")
    if adapters.restricted.bytes != adapters.unrestricted.bytes:
        yield Text(f"{ENGINES['vllm']}: {adapters.restricted.bytes:,} bytes, {size(adapters.restricted.bytes)}")
    yield Text()
    yield _ceilings(adapters)
    yield Text("\ntrainer", style="bold")
    yield trainer_table([answer.trainer])
    exact, four_bit = base_weight_bytes(shape, adapters.dtype), four_bit_weight_bytes(shape, adapters.dtype)
    yield Text(f"base weights: {size(exact)} in {adapters.dtype}, exactly; {size(four_bit)} in 4 bits, an estimate")


def _ceilings(adapters: AdapterPlan) -> Table:
    """What every ceiling that vLLM permits would set aside."""
    table = figures_table("ceiling", "Unsloth on a GPU", "restricted")
    for row in adapters.ceilings:
        now = "bold" if row.max_lora_rank == adapters.engine_max_lora_rank else ""
        table.add_row(str(row.max_lora_rank), size(row.unrestricted_bytes), size(row.restricted_bytes), style=now)
    return table
