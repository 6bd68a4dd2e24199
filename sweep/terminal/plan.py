"""All of a plan as people read it, in 80 columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from objectives.memory.footprint import reserves
from objectives.settings.learner import MOST_SLOTS
from sweep.planning.memory import MemoryPlan
from sweep.planning.pack import PackPlan
from sweep.planning.study_plan import Spending, StudyPlan
from sweep.preflight.devices import Device
from sweep.terminal.cards import cards_lines, time_and_money
from sweep.terminal.memory import (
    ENGINES,
    figures_table,
    model_lines,
    module_table,
    rounding_line,
    target_sets_table,
    textbook_line,
    trainer_table,
)
from sweep.terminal.prompts import prompt_lines
from sweep.text import duration, rung, signed_size, size


def full_plan(plan: StudyPlan) -> RenderableType:
    """Every part of a plan, one after the other."""
    return Group(
        Text(f"study {plan.study}", style="bold"),
        *(model_lines(plan.memory.model) if plan.memory else ()),
        *_section("search", _search(plan)),
        *(_memory_sections(plan, plan.memory) if plan.memory else ()),
        *_section("prompts", prompt_lines(plan.prompts)),
        *_section("budget", _budget(plan)),
        *_section("time", _time(plan)),
        *(_section("cards", cards_lines(plan)) if plan.cards else ()),
        *_section("verdict", [Text(plan.verdict.sentence)]),
        *(_section("note", [Text(note, style="yellow") for note in plan.notes]) if plan.notes else ()),
        *_section("settings in force", [_settings(plan)]),
    )


def _memory_sections(plan: StudyPlan, memory: MemoryPlan) -> Iterator[RenderableType]:
    yield from _section("engine: adapters", _engine(memory, plan.device))
    yield from _section("trainer: each rank", _trainer(memory))
    if memory.pack is not None:
        yield from _section("pack: trials at once", _pack(memory, memory.pack, plan.device))
    yield from _section("memory at its peak", _peak(plan, memory))


def _search(plan: StudyPlan) -> Iterator[RenderableType]:
    table = figures_table("", "", header=False)
    for name, ladder in plan.search.ladders.items():
        table.add_row(name, ", ".join(map(rung, ladder)))
    search, ranks = plan.search, len(plan.search.ladders["r"])
    sets = search.ladders.get("target_modules")
    each = f" and {len(sets)} sets of target modules" if sets else ""
    yield table
    yield Text(
        f"{search.trials} trials: {search.points_per_rank} points for each of {ranks} ranks{each} "
        f"({search.design_trials}), then {search.tpe_trials} by TPE"
    )


def _engine(memory: MemoryPlan, device: Device | None) -> Iterator[RenderableType]:
    yield Text(rounding_line(memory.adapters))
    yield Text(ENGINES[memory.engine])
    if not reserves(memory.engine):
        return
    adapters = memory.adapters
    chosen, other = adapters.restricted, adapters.unrestricted
    if memory.engine == "unsloth":
        chosen, other = other, chosen
    yield module_table(chosen)
    yield Text(f"{chosen.bytes:,} bytes, exactly. {textbook_line(adapters, chosen)}")
    if memory.engine == "vllm" and other.bytes != chosen.bytes:
        yield Text(f"The engine that Unsloth starts on a GPU would reserve {size(other.bytes)}.")
    yield from _ceilings(memory, device)


def _ceilings(memory: MemoryPlan, device: Device | None) -> Iterator[RenderableType]:
    """What other ceilings would reserve; with a device, how many sequences of full length the cache then holds."""
    columns = ["ceiling", "reserved", "change", "largest rank in the ladder"]
    table = figures_table(*columns, *([] if device is None else ["sequences", "fits"]))
    now = memory.adapters.engine_max_lora_rank
    for ceiling in memory.ceilings:
        cells = [
            str(ceiling.max_lora_rank),
            size(ceiling.bytes),
            "now" if ceiling.max_lora_rank == now else signed_size(-ceiling.saved_bytes),
            "none" if ceiling.largest_r is None else str(ceiling.largest_r),
        ]
        if ceiling.fit is not None:
            cells += [f"{ceiling.fit.sequences:,}", "yes" if ceiling.fit.fits else "no"]
        table.add_row(*cells, style="bold" if ceiling.max_lora_rank == now else "")
    yield Text()
    yield table


def _trainer(memory: MemoryPlan) -> Iterator[RenderableType]:
    yield trainer_table(memory.trainer)
    if memory.target_sets:
        yield Text()
        yield target_sets_table(memory.target_sets)
    if memory.pack is not None:
        top = memory.adapters.engine_max_lora_rank
        yield Text(f"Packed slots are padded: every rank takes as much as r={top}.")


def _pack(memory: MemoryPlan, pack: PackPlan, device: Device | None) -> Iterator[RenderableType]:
    """How many trials at once, what one more of them takes and, where memory is known, for how many there is room."""
    yield Text(f"{pack.slots} slot{'s' if pack.slots > 1 else ''}: {pack.reason}", style="bold")
    ceiling, slot = memory.adapters.engine_max_lora_rank, pack.per_slot
    table = figures_table("per extra slot", "", "")
    if reserves(memory.engine):
        table.add_row("engine: adapters", size(slot.engine_adapters), "exact")
    table.add_row("trainer: adapter, gradients, AdamW", size(slot.trainer), f"exact, padded to r={ceiling}")
    table.add_row("activations", size(slot.activations), "estimate")
    table.add_row("all", size(slot.bytes), "", style="bold")
    yield table
    if pack.fitting is not None:
        where = "the memory available here" if device is None else device.name
        more = " or more" if pack.fitting == MOST_SLOTS else ""
        yield Text(f"{where} has room for {pack.fitting}{more} (estimate)")


def _peak(plan: StudyPlan, memory: MemoryPlan) -> Iterator[RenderableType]:
    held, four_bit = memory.footprint, any(s.key == "model.load_in_4bit" and s.value for s in plan.settings)
    table = figures_table("", "", "", header=False)
    copies = "one copy for both" if held.weights_shared else "trainer and engine hold a copy each"
    if memory.engine == "none":
        copies = "one copy"
    table.add_row("base weights", size(held.weights), f"{'estimate, 4-bit' if four_bit else 'exact'}; {copies}")
    if reserves(memory.engine):
        table.add_row("engine: adapters", size(held.adapters), "exact")
        table.add_row("engine: activations", size(held.engine_activations), "estimate")
    if memory.engine != "none":
        table.add_row("cache per sequence", size(held.sequence_cache), "estimate")
    if memory.pack is None:
        table.add_row("trainer: adapter", size(held.trainer), f"exact, r={memory.trainer[-1].r}")
    else:
        table.add_row(f"trainer: slots x {held.slots}", size(held.trainer), "exact")
    table.add_row("trainer: activations", size(held.training_activations), "estimate")
    yield table
    if plan.device is None or memory.fit is None:
        yield Text("No GPU was named with --device or found here, so this does not say what fits.")
        return
    fit, device = memory.fit, plan.device
    verdict = "fits (estimate)" if fit.fits else f"does not fit (estimate): {fit.reason}"
    yield Text(f"{device.name}, {size(device.memory_bytes)} ({device.source}): {verdict}", style="bold")
    if memory.engine == "none":
        yield Text(f"left when training peaks: {size(fit.trainer_room)}")
        return
    yield Text(
        f"engine's share less what it holds: {size(fit.engine_room)}, so {fit.sequences:,} sequences of full length; "
        f"left beside it when training peaks: {size(fit.trainer_room)}"
    )


def _budget(plan: StudyPlan) -> Iterator[RenderableType]:
    table = figures_table("", "per trial", f"{plan.search.trials} trials")
    rows: tuple[tuple[str, str], ...] = (
        ("steps", "steps"), ("prompts", "prompts"), ("episodes (completions)", "episodes"),
        ("completion tokens, at most", "completion_tokens"),
        ("held-out completions", "evaluation_completions"), ("their tokens, at most", "evaluation_tokens"),
    )  # fmt: skip
    for label, name in rows:
        table.add_row(label, _figure(plan.per_trial, name), _figure(plan.in_all, name))
    yield table


def _time(plan: StudyPlan) -> Iterator[RenderableType]:
    measured, time = plan.measured, plan.time
    if measured is None and time is not None and plan.device is not None:
        workers = f"{time.workers} x " if time.workers > 1 else ""
        yield Text(
            f"{workers}{plan.device.name}: search {time_and_money(time, time.search_trials)}, confirmation at most "
            f"{time_and_money(time, time.confirmation_trials)}",
            style="bold",
        )
        yield Text(f"This is {time.assumptions}.", style="dim")
        return
    if measured is None:
        yield Text("Not known without a measurement: --measure runs a few steps of one trial.")
        return
    together = f" of {measured.slots} trials" if measured.slots > 1 else ""
    yield Text(
        f"about {duration(measured.study_seconds)}: {duration(measured.load_seconds)} to load, then "
        f"{plan.search.trials} trials of {duration(measured.trial_seconds)} ({measured.step_seconds:.2f} s per step"
        f"{together}, {measured.evaluation_seconds:.1f} s of scoring)",
        style="bold",
    )
    yield Text(
        f"Measured here at r={measured.r}, the slowest, with completions of {measured.mean_completion_tokens:.0f} "
        "tokens. Longer or shorter ones change it, and trials that collapse or are pruned end early.",
        style="dim",
    )
    if measured.noise:
        yield Text(measured.noise)


def _settings(plan: StudyPlan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(no_wrap=True)
    for setting in plan.settings:
        value = setting.value if isinstance(setting.value, str) else json.dumps(setting.value)
        # As Text: Rich would take a list's brackets for markup.
        table.add_row(setting.key, Text(value), setting.origin, style="dim" if setting.origin == "default" else "")
    return table


def _section(title: str, parts: Iterable[RenderableType]) -> Iterator[RenderableType]:
    yield Text()
    yield Text(title, style="bold")
    yield Padding(Group(*parts), (0, 0, 0, 2))


def _figure(spending: Spending, name: str) -> str:
    value: int = getattr(spending, name)
    return f"{value:,}"
