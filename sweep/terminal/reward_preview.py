"""What a reward says of the base policy's completions, as people read it."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from objectives.figures import decimals
from objectives.trial.preview import Group, Preview
from sweep.text import printable

NAMES_WIDTH = 32
"""Columns that the functions' names may take in a table; where they take more, completions are listed."""


def preview_report(preview: Preview, *, show: int) -> RenderableType:
    """Some groups in full, then each reward function over all of them."""
    table = Table("reward function", "mean", "spread", box=None, pad_edge=False)
    for name, (mean, std) in preview.by_function().items():
        places = decimals(std or 0.0)
        table.add_row(name, *("does not apply" if value is None else f"{value:.{places}f}" for value in (mean, std)))
    warnings = (Text(warning, style="yellow") for warning in preview.warnings)
    return Lines(*(_group_lines(group) for group in preview.groups[:show]), table, Text(), *warnings)


def _group_lines(group: Group) -> RenderableType:
    signal = "" if group.has_signal else "  (no signal: all rewards are equal)"
    together = sum(len(name) + 2 for name in group.rewards) <= NAMES_WIDTH
    body = _as_table(group) if together else _as_list(group)
    return Lines(Text(f"prompt: {_text(group.prompt)}{signal}", style="bold"), body, Text())


def _as_table(group: Group) -> RenderableType:
    """A line for each completion, a column for each function."""
    several = len(group.rewards) > 1
    table = Table("completion", *group.rewards, *(["total"] if several else []), box=None, pad_edge=False)
    for i, completion in enumerate(group.completions):
        table.add_row(escape(_text(completion)), *_values(group, i), *([_value(group.totals[i])] if several else []))
    return table


def _as_list(group: Group) -> RenderableType:
    """Each completion in full, and under it what every function gave it: many columns would leave no room for it."""
    lines: list[RenderableType] = []
    for i, completion in enumerate(group.completions):
        given = [f"{name} {value}" for name, value in zip(group.rewards, _values(group, i), strict=True)]
        lines.append(Text(f"{_value(group.totals[i])}  {_text(completion)}"))
        lines.append(Padding(Text(", ".join(given), style="dim"), (0, 0, 0, 4)))
    return Lines(*lines)


def _values(group: Group, i: int) -> list[str]:
    """What each function gave the i-th completion."""
    return [_value(values[i]) for values in group.rewards.values()]


def _value(reward: float | None) -> str:
    """A reward, or a dash where there is none."""
    return "-" if reward is None or math.isnan(reward) else f"{reward:g}"


def _text(content: Any) -> str:
    """A prompt or completion as one readable string, chat or not."""
    if isinstance(content, str):
        text = content
    elif len(content) == 1 and content[0]["role"] == "assistant":
        text = str(content[0]["content"])
    else:
        text = "\n".join(f"[{message['role']}] {message['content']}" for message in content)
    return printable(text)
