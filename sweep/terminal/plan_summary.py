"""What one decides by before a study is run, on one screen of 24 lines and 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from objectives.memory.footprint import reserves
from sweep.planning.memory import MemoryPlan
from sweep.planning.study_plan import Spending, StudyPlan
from sweep.terminal.cards import time_and_money
from sweep.text import count, duration, rung, size


def plan_summary(plan: StudyPlan) -> RenderableType:
    """Points, episodes, memory and what fits, time, what the verdict can show, and what should not be missed."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, text in _rows(plan):
        table.add_row(name, text)
    notes = (Text(f"note: {note}", style="yellow") for note in plan.notes)
    return Group(table, *notes, Text("More: --full shows every table and setting.", style="dim"))


def _rows(plan: StudyPlan) -> Iterator[tuple[str, RenderableType]]:
    search, trial = plan.search, plan.per_trial
    yield "study", plan.study + ("" if plan.memory is None else f", on {_model(plan.memory)}")
    ladders = search.ladders
    ranks = ", ".join(map(str, ladders["r"]))
    points = f"{search.points_per_rank} point{'s' if search.points_per_rank > 1 else ''}"
    rest = f", then {search.tpe_trials} by TPE" if search.tpe_trials else ""
    sets = f", with each of {len(ladders['target_modules'])} sets of modules" if "target_modules" in ladders else ""
    yield "search", f"{search.trials} trials: {points} for each of r={ranks}{sets}{rest}"
    rungs = (f"{name} {', '.join(map(rung, ladder))}" for name, ladder in ladders.items() if name != "r")
    yield "", "; ".join(rungs)
    confirmed = plan.verdict.seeds * len(ladders["r"])
    most = "" if plan.verdict.design == "fixed" else "at most "
    seeds = f"{most}{plan.verdict.seeds} seeds for each of {len(ladders['r'])} ranks"
    episodes = f"{confirmed * trial.episodes:,} episodes" if trial.episodes else f"{confirmed * trial.prompts:,} pairs"
    yield "confirmation", f"{seeds}: {most}{confirmed} trials, {episodes}"
    yield "each trial", f"{trial.steps:,} steps, {_amount(trial)}"
    yield "the search", _amount(plan.in_all)
    if plan.memory is not None:
        yield from _memory(plan, plan.memory)
    if plan.prompts is not None:
        prompts = plan.prompts
        left_out = f"; {prompts.too_long}" if prompts.too_long else ""
        yield "prompts", f"{prompts.training:,} to train on, {prompts.held_out:,} held out{left_out}"
    if plan.workers > 1:
        yield "workers", _workers(plan)
    yield "time", _time(plan)
    spread = None if plan.measured is None else plan.measured.spread
    yield "verdict", plan.verdict.sentence if spread is None else plan.verdict.against(spread)
    if plan.measured is not None and plan.measured.noise:
        yield "noise", plan.measured.noise


def _amount(spending: Spending) -> str:
    if not spending.episodes:
        return f"{spending.prompts:,} preference pairs; nothing is sampled"
    return f"{spending.episodes:,} episodes, at most {spending.completion_tokens:,} tokens"


def _time(plan: StudyPlan) -> str:
    """As measured here, else by the device's data sheet, else how to find out."""
    measured, time = plan.measured, plan.time
    if measured is not None:
        alone = measured.study_seconds
        shared = measured.load_seconds + (alone - measured.load_seconds) / plan.workers
        seconds, by = (alone, "") if plan.device is None else (shared, f", {plan.workers} workers" * (plan.workers > 1))
        return f"about {duration(seconds)} for the search{by}, by steps measured here"
    if plan.device is None or time is None:
        return "not measured; --measure runs a few steps of one trial, and estimates it"
    price = "" if time.price is None else f", at {time.price:g} an hour"
    search, confirmation = (time_and_money(time, n) for n in (time.search_trials, time.confirmation_trials))
    how = "an estimate by the card's data sheet; --measure times it"
    return f"search {search}, confirmation at most {confirmation}{price}: {how}"


def _model(memory: MemoryPlan) -> str:
    return f"{memory.model.name} ({count(memory.model.shape.parameters)} parameters)"


def _workers(plan: StudyPlan) -> str:
    """What several workers take, and what they bring."""
    held = "" if plan.memory is None else f", {size(plan.workers * _peak(plan.memory))} of memory in all"
    if plan.device is None:
        return f"{plan.workers}, each with its own model and engine{held}; they share the processor's cores"
    return f"{plan.workers}, one per GPU: {plan.workers} times the trials in the same time, once each has loaded"


def _peak(memory: MemoryPlan) -> int:
    held = memory.footprint
    return held.in_engine + held.in_trainer + (held.sequence_cache if held.engine != "none" else 0)


def _memory(plan: StudyPlan, memory: MemoryPlan) -> Iterator[tuple[str, RenderableType]]:
    adapters, held = memory.adapters, memory.footprint
    if reserves(memory.engine):
        ceiling = adapters.engine_max_lora_rank
        yield "adapters", f"{size(held.adapters)} reserved in the engine for max_lora_rank {ceiling}, exactly"
    if memory.target_sets:
        top = memory.trainer[-1].r
        costs = "; ".join(f"{each.name} {count(each.parameters[top])}" for each in memory.target_sets)
        yield "", f"parameters of one at r={top}: {costs}"
    if memory.pack is not None:
        pack = memory.pack
        yield "pack", f"{pack.slots} trial{'s' if pack.slots > 1 else ''} at a time: {pack.reason}"
    room = "no GPU was named or found, so this does not say what fits"
    if plan.device is None and any(
        setting.key == "model.device" and setting.value == "gpu" for setting in plan.settings
    ):
        room = f"it fits {sum(not card.lacks for card in plan.cards)} of {len(plan.cards)} known cards (--full)"
    if plan.device is not None and memory.fit is not None:
        fit = memory.fit
        at_once = f", with {fit.sequences:,} sequences at once" if held.engine != "none" else ""
        does = f"fits{at_once}" if fit.fits else f"does not fit: {fit.reason}"
        room = f"{plan.device.name} ({size(plan.device.memory_bytes)}) {does}"
    yield "memory", f"{size(_peak(memory))} at its peak, an estimate; {room}"
