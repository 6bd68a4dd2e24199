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
    to learn: too many such groups, and a sweep wastes its budget. What the study's `[verdict]` can show against the
    reward's spread is said too. Nothing is trained and nothing is stored.

    Example: `sweep try-reward my_study.toml --prompts 32`
    """
    from rich.console import Console

    from sweep.planning.number_format import device_here, with_dtype
    from sweep.planning.preflight import check_device, check_generator, check_study
    from sweep.planning.verdict import plan_verdict
    from sweep.running.reward_preview import check_reward, judge_signal, preview_json
    from sweep.study.reading import load_study
    from sweep.terminal.reward_preview import preview_report

    config = with_dtype(load_study(study, overrides), device_here())
    planned = check_study(config)
    check_device(config)
    check_generator(config)
    console, told = Console(), Console(stderr=True)
    told.print("loading the model and the engine: about a minute on a CPU", style="dim")
    preview = check_reward(
        config, prompts=prompts, tell=lambda doing: told.print(doing, style="dim", markup=False, highlight=False)
    )
    reach = plan_verdict(config, held_out=None if planned is None else planned.held_out).against(preview.spread)
    if as_json:
        typer.echo(json.dumps({**preview_json(preview), "spread": preview.spread, "verdict": reach}, indent=2))
    else:
        console.print(preview_report(preview, show=show))
        console.print(judge_signal(preview).sentence, highlight=False)
        console.print(reach, highlight=False)
