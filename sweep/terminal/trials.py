"""Trials one by one, in 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from sweep.text import decimals_for, duration, printable

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("trial", "state", "r", "alpha", "rate", "seed", "reward", "gain", "time")


CAPTION = "time: the trial's share of the device's, as in the report; trials of a pack share it"


def trials_table(trials: pd.DataFrame) -> Table:
    """A row for each trial of `sweep.results`, with the reason why it failed, was pruned or collapsed where it did.

    A `c` before its number marks one of a confirmation, an `f` one of full fine-tuning, and a `+` behind its state one
    that somebody chose by hand.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=CAPTION, caption_justify="left")
    sets = "target_modules" in trials and trials.target_modules.nunique() > 1
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("trial", "state") else "right", no_wrap=True)
    # There is no room for columns of their own.
    table.add_column("modules, parameters, reason" if sets else "reason", overflow="fold")
    rewards = decimals_for(_number(value) for value in trials.held_out)
    for trial in trials.to_dict("records"):
        known = {name: None if _missing(value) else value for name, value in trial.items()}
        gain, reward, seconds = known["gain"], known["held_out"], known.get("device_seconds")
        table.add_row(
            _marked(str(known["phase"]), str(known["trial"])),
            ("collapsed" if known["collapsed"] else str(known["state"])) + ("+" if known["added"] else ""),
            *(_whole(known[name]) for name in ("r", "alpha")),
            "" if known["learning_rate"] is None else f"{known['learning_rate']:g}",
            _whole(known["seed"]),
            "" if reward is None else f"{reward:.{rewards}f}",
            "" if gain is None else f"{gain:+.{rewards}f}",
            "" if seconds is None else duration(seconds),
            Text(printable(" ".join([*(_cost(known) if sets else ()), known["reason"] or ""]).strip())),
        )
    return table


def _cost(known: Mapping[Any, Any]) -> Iterator[str]:
    """A trial's modules and the numbers in its adapter, as far as they are known."""
    yield known["target_modules"] or ""
    if known["adapter_parameters"] is not None:
        yield f"{known['adapter_parameters']:,.0f}"


def _marked(phase: str, number: str) -> str:
    """A trial's number with its phase: each confirmation counts its trials from 0, as the search does."""
    if phase == "search":
        return number
    if phase == "reference":
        return f"f{number}"
    generation = phase.removeprefix("confirm").strip().replace(" steps", "s")
    return f"c{generation}/{number}" if generation else f"c{number}"


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float | None:
    return None if _missing(value) else float(value)


def _whole(value: Any) -> str:
    return "" if value is None else f"{value:.0f}"
