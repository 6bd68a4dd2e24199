"""The prompts of a plan as people read them."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from sweep.preflight.prompts import PromptPlan


def prompt_lines(prompts: PromptPlan | None) -> Iterator[RenderableType]:
    """How many there are and how long they are, and what is left out."""
    if prompts is None:
        yield Text("lengths are known when they load: the data or the model's tokenizer is not read here", style="dim")
        return
    yield Text(f"{prompts.training:,} to train on, {prompts.held_out:,} held out")
    yield Text(
        f"median {prompts.median:,} tokens, 95 % up to {prompts.p95:,}, the longest {prompts.longest:,}; "
        f"used are those up to {prompts.limit:,}"
    )
    if prompts.too_long is not None:
        yield Text(str(prompts.too_long), style="yellow")
