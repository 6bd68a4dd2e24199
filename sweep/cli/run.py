"""`sweep run`."""

from __future__ import annotations

from typing import Annotated

import typer

from sweep.cli.options import (
    RayOption,
    RayWithoutTokenOption,
    SetOption,
    StorageOption,
    StudyArgument,
    WorkersOption,
    with_workers,
)
from sweep.storage.default import DEFAULT_STORAGE


def run(
    study: StudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=1, help="Total trials, instead of the study's `search.trials`."),
    ] = None,
    workers: WorkersOption = None,
    ray: RayOption = None,
    ray_without_token: RayWithoutTokenOption = False,
    overrides: SetOption = [],  # noqa: B006 - typer reads the default, nothing changes it
) -> None:
    """Run a study's search, or continue it.

    Every rank first gets the same number of (alpha, learning rate) points; then Optuna's TPE adapts. Each trial wraps
    the base model with a new adapter, trains it by GRPO for the study's budget, and is scored on held-out prompts.
    Ctrl-C stops it; run the same command again to continue. Each trial writes a log, in a folder beside the storage.

    Examples: `sweep run tiny`, `sweep run my_study.toml --trials 12 --set budget.steps=40`
    """
    from rich.console import Console

    from sweep.cli.pasted import sweep_command
    from sweep.running.recipe import run_search
    from sweep.study.reading import load_study
    from sweep.terminal.tables import study_table

    if trials is not None:
        overrides = [*overrides, f"search.trials={trials}"]
    console = Console()
    config = load_study(study, with_workers(overrides, workers, ray, without_token=ray_without_token))
    console.print(study_table(run_search(config, storage=storage, console=console)))
    command = sweep_command("confirm", study, storage=storage, overrides=overrides)
    console.print(
        f"next: `{command}` runs every rank on fresh seeds and gives the verdict", markup=False, soft_wrap=True
    )
