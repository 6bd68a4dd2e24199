"""`sweep confirm`."""

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
from sweep.errors import NothingToConfirmError
from sweep.storage.default import DEFAULT_STORAGE


def confirm(
    study: StudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            min=2,
            help="Seeds per rank: at most `verdict.seeds`, or any number where `verdict.design` is fixed.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", min=1, help="Go on to so many steps: a horizon of its own, from checkpoints that were kept."
        ),
    ] = None,
    workers: WorkersOption = None,
    ray: RayOption = None,
    ray_without_token: RayWithoutTokenOption = False,
    overrides: SetOption = [],  # noqa: B006 - typer reads the default, nothing changes it
) -> None:
    """Run every rank's best configuration on fresh seeds, and give the verdict.

    The best of a search is the luckiest, so it is no answer. This freezes one configuration for each rank that was
    tuned like the others (the best smoothed estimate), runs all of them on the same seeds, and finds the smallest
    rank that has learned and is as good as every other, with a stated confidence. Before anything runs it prints what
    that costs, and how likely it is to recognize a rank that truly equals the others. The rule is the study file's
    `[verdict]`, set before the search.

    Seeds are added one by one, and only for ranks that the verdict still needs. After each it says where every rank
    stands, and it stops when the verdict is settled, or unlikely to be by the last of `verdict.seeds`. With
    `verdict.design = "fixed"` all seeds are run, and `--seeds 20` later adds some, and reruns none.

    Ctrl-C stops it; run the same command again to continue.

    `--steps 160` asks the same of longer trials. With `run.keep_checkpoints = true` they go on from the ends of the
    shorter ones, where the learning rate is constant, else they start anew. What comes of it is stored as
    STUDY.confirm.160-steps, beside the verdict at the study's own budget, which stands.

    Examples: `sweep confirm tiny`, `sweep confirm my_study.toml --workers 2`
    """
    from rich.console import Console

    from sweep.cli.pasted import sweep_command
    from sweep.running.recipe import run_confirmation
    from sweep.study.reading import load_study
    from sweep.terminal.verdict import verdict_report

    config = load_study(study, with_workers(overrides, workers, ray, without_token=ray_without_token))
    console = Console(highlight=False)
    try:
        confirmed, summary = run_confirmation(config, storage=storage, seeds=seeds, console=console, steps=steps)
    except NothingToConfirmError as error:
        again = sweep_command("run", study, storage=storage, overrides=overrides)
        raise NothingToConfirmError(f"{error}; `{again}` continues it") from error
    if steps is not None:
        console.print(f"after {steps} steps, where the study declares {config.budget.steps}:", markup=False)
    console.print(verdict_report(confirmed, summary))
    if confirmed.verdict.r is not None:
        command = sweep_command("report", config.study.name, storage=storage)
        console.print(f"next: `{command}` has the calls to paste", markup=False, soft_wrap=True)
