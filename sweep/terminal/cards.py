"""Time and money by card, as people read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich.console import RenderableType
from rich.text import Text

from sweep.planning.roofline import TimeEstimate
from sweep.planning.study_plan import StudyPlan
from sweep.terminal.memory import figures_table
from sweep.text import duration, money, size

SHORT = ("no kernels", "no bfloat16")
FORMATS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def time_and_money(time: TimeEstimate, trials: int) -> str:
    """How long so many trials take and, where there is a price, what they cost: `31 h (24.80)`."""
    seconds = trials * time.trial_seconds / time.workers
    long = f"{seconds / 3600:,.0f} h" if seconds >= 36000 else duration(seconds)
    cost = time.money(trials)
    return long if cost is None else f"{long} ({money(cost)})"


def cards_lines(plan: StudyPlan) -> Iterator[RenderableType]:
    """A row for every card of the table, and what its hours rest on; or why no card will do."""
    reasons = {card.lacks for card in plan.cards}
    if len(reasons) == 1 and (reason := reasons.pop()):
        yield Text(f"On a GPU: {reason}.")
        return
    # The cache holds none where nothing is sampled.
    cached = any(card.sequences for card in plan.cards)
    table = figures_table("card", "memory", "in", "slots", *["sequences"] * cached, "search", "confirm")
    for card in plan.cards:
        hours = ["" if not card.lacks else card.lacks if card.lacks in SHORT else "does not fit", ""]
        if card.time is not None:
            trials = card.time.search_trials, card.time.confirmation_trials
            hours = [time_and_money(replace(card.time, price=None), each) for each in trials]
        room = ["", ""] if card.lacks else [str(card.slots), f"{card.sequences:,}"]
        table.add_row(
            card.device.name, size(card.device.memory_bytes), FORMATS[card.dtype], *room[: 1 + cached], *hours
        )
    yield table
    if times := [card.time for card in plan.cards if card.time is not None]:
        yield Text(f"Hours on one card, at most for the confirmation: {times[0].assumptions}.")
