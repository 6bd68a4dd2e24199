"""`sweep try-reward`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sweep.cli.options import JsonOption, SetOption, StudyArgument


def try_reward(
    study: StudyArgument,
    prompts: Annotated[
        int, typer.Option("--prompts", min=2, help="Prompts to sample a group of completions for.")
    ] = 16,
    show: Annotated[int, typer.Option("--show", min=0, help="Groups to print in full.")] = 3,
    overrides: SetOption = [],  # noqa: B006 - typer reads the default, nothing changes it
    as_json: JsonOption = False,
) -> None:
    """Sample the base policy, reward it, and say whether GRPO can learn from it.

    GRPO compares the completions of one prompt with each other. Where all of them get the same reward there is nothing
    to learn: too many such groups, and a sweep wastes its budget. It also says what the study's `[verdict]` can show
    given the reward's spread. Nothing is trained and nothing is stored.

    Example: `sweep try-reward my_study.toml --prompts 32`
    """
    from rich.console import Console

    from sweep.running.recipe import try_reward as tried_reward
    from sweep.running.reward_preview import preview_json
    from sweep.study.reading import load_study
    from sweep.terminal.reward_preview import preview_report

    console, told = Console(), Console(stderr=True)
    tried = tried_reward(
        load_study(study, overrides),
        prompts=prompts,
        tell=lambda doing: told.print(doing, style="dim", markup=False, highlight=False),
    )
    if as_json:
        shown = {**preview_json(tried.preview), "spread": tried.preview.spread, "verdict": tried.reach}
        typer.echo(json.dumps(shown, indent=2))
    else:
        console.print(preview_report(tried.preview, show=show))
        console.print(tried.signal.sentence, highlight=False)
        console.print(tried.reach, highlight=False)
