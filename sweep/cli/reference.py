"""`sweep reference`."""

from __future__ import annotations

from typing import Annotated

import typer

from sweep.cli.options import SetOption, StorageOption, StudyArgument
from sweep.storage.default import DEFAULT_STORAGE


def reference(
    study: StudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    learning_rates: Annotated[
        list[float],
        typer.Option("--learning-rate", help="A rate to train at, one or more. Default: a tenth of the study's."),
    ] = [],  # noqa: B006 - typer reads the default, nothing changes it
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds per rate.")] = 3,
    overrides: SetOption = [],  # noqa: B006 - typer reads the default, nothing changes it
) -> None:
    """Train all weights for the same budget, as a line to compare ranks with.

    For models that are small enough: in float32, by TRL, one trial after another, sampled by Transformers' `generate`,
    whatever the study has; without a reference policy (learner.beta = 0) and without 4 bits.
    It takes a study whose search has been begun. What comes of it is stored as STUDY.reference, shown by `sweep show`
    and drawn into the report. It has no part in the verdict, which is about ranks. `sweep log STUDY.reference 0` shows
    a trial's log, `sweep drop STUDY.reference 0` ends one.

    Full fine-tuning wants lower rates than an adapter, so it looks at a tenth of the study's. Where the best one is the
    lowest or the highest, give others with `--learning-rate`: what is stored stays, and is compared with them.

    Ctrl-C stops it; run the same command again to continue.

    Examples: `sweep reference tiny`, `sweep reference tiny --learning-rate 1e-4 --learning-rate 3e-4 --seeds 5`
    """
    from rich.console import Console

    from sweep.running.reference import run_reference
    from sweep.study.reading import load_study

    console = Console(highlight=False)
    found, decimals = run_reference(
        load_study(study, overrides), storage=storage, rates=learning_rates, seeds=seeds, console=console
    )
    for rate in found.rates:
        collapsed = f", {rate.collapsed} collapsed" if rate.collapsed else ""
        console.print(
            f"  {rate.learning_rate:g}: {rate.mean:.{decimals}f} (n={len(rate.values)}{collapsed})", markup=False
        )
    console.print(found.sentence(decimals), markup=False)
