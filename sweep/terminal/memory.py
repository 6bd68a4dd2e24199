"""What models and adapters hold in memory, as tables and sentences that plans share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from objectives.memory.exact import EngineMemory, TrainerMemory
from objectives.memory.footprint import EngineKind
from sweep.planning.adapters import AdapterPlan, ModelPlan
from sweep.planning.target_sets import TargetSetCost
from sweep.text import count, size

ENGINES: dict[EngineKind, str] = {
    "vllm": "vLLM, restricted to the target modules",
    "unsloth": "the vLLM that Unsloth starts on a GPU, which adapts all that it can",
    "transformers": "Transformers' generate, which sets nothing aside",
    "none": "no engine: preference pairs are ranked, not sampled",
}


def model_lines(model: ModelPlan) -> Iterator[RenderableType]:
    """What the model is, and which file says so."""
    shape = model.shape
    tied = "tied" if shape.tied else "untied"
    yield Text(
        f"{model.name}: {count(shape.parameters)} parameters, {shape.model_type}, {shape.layers} layers of "
        f"{shape.hidden}, {shape.heads} query and {shape.kv_heads} key heads of {shape.head_dim}, "
        f"{shape.feed_forward} feed-forward, {shape.vocab:,} tokens, {tied} embeddings"
    )
    yield Text(f"read from {model.config}", style="dim", overflow="fold")


def figures_table(*columns: str, header: bool = True) -> Table:
    """A plain table: names on the left, figures flush right."""
    table = Table(box=box.SIMPLE_HEAD if header else None, padding=(0, 2, 0, 0), show_header=header, show_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i and header else "left", no_wrap=header or i == 0)
    return table


def module_table(memory: EngineMemory) -> Table:
    """The engine's stacks by module."""
    table = figures_table("module", "of them", "A", "B", "A + B")
    for module in memory.modules:
        row = (str(module.count), size(module.a_bytes), size(module.b_bytes), size(module.bytes))
        table.add_row(module.name if module.name != "lm_head" else "logits", *row)
    table.add_row("all", "", "", "", size(memory.bytes), style="bold")
    return table


def trainer_table(ranks: Iterable[TrainerMemory]) -> Table:
    """What each rank holds while it is trained."""
    table = figures_table("r", "parameters", "adapter", "gradients", "AdamW", "all")
    for rank in ranks:
        parts = (rank.adapter_bytes, rank.gradient_bytes, rank.optimizer_bytes, rank.bytes)
        table.add_row(str(rank.r), count(rank.parameters), *map(size, parts))
    return table


def target_sets_table(sets: Sequence[TargetSetCost]) -> Table:
    """The numbers in an adapter of each set of target modules, at each rank."""
    table = figures_table("parameters", *(f"r={r}" for r in sets[0].parameters))
    for each in sets:
        table.add_row(each.name, *map(count, each.parameters.values()))
    return table


def textbook_line(adapters: AdapterPlan, memory: EngineMemory) -> str:
    """The rule of thumb beside what is allocated."""
    return (
        f"The textbook 2 x r x hidden x layers x bytes says {size(adapters.textbook_bytes)}: "
        f"{memory.bytes / adapters.textbook_bytes:.1f} times less."
    )


def rounding_line(adapters: AdapterPlan) -> str:
    """The ceiling asked for, and the one that the engine gets."""
    asked, given = adapters.max_lora_rank, adapters.engine_max_lora_rank
    rounded = "" if asked == given else f", rounded up to {given}: vLLM permits no value between"
    return f"max_lora_rank {asked}{rounded}; max_loras {adapters.max_loras}; {adapters.dtype}"
