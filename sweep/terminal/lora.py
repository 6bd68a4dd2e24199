"""The rule and the memory question as people read their answer."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from objectives.lora import LoraSpec
from objectives.memory.estimates import four_bit_weight_bytes
from objectives.memory.exact import base_weight_bytes
from sweep.answer.lora import LoraAnswer
from sweep.planning.adapters import AdapterPlan
from sweep.terminal.memory import (
    ENGINES,
    figures_table,
    model_lines,
    module_table,
    rounding_line,
    textbook_line,
    trainer_table,
)
from sweep.text import size


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
    """What every ceiling that vLLM permits would reserve."""
    table = figures_table("ceiling", "Unsloth on a GPU", "restricted")
    for row in adapters.ceilings:
        now = "bold" if row.max_lora_rank == adapters.engine_max_lora_rank else ""
        table.add_row(str(row.max_lora_rank), size(row.unrestricted_bytes), size(row.restricted_bytes), style=now)
    return table
