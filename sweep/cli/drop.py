"""`sweep drop`."""

from __future__ import annotations

from typing import Annotated

import typer

from sweep.cli.options import StorageOption
from sweep.cli.stored import StoredStudyArgument, chosen_study, open_stored
from sweep.storage.default import DEFAULT_STORAGE


def drop(
    study: StoredStudyArgument,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="The trial's number, as in `sweep trials`.")],
    confirm: Annotated[bool, typer.Option("--confirm", help="A trial of the confirmation, not of the search.")] = False,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """End a trial that runs or waits, from any terminal; the study goes on without it.

    One that runs ends at its next step. It counts as failed, with the reason, and is not run again; a rank that is left
    with fewer points than `search.points_per_rank` is not compared with the others.

    Examples: `sweep drop tiny 3`, `sweep drop tiny 12 --confirm`
    """
    from sweep.storage.requests import drop_trial

    typer.echo(drop_trial(chosen_study(open_stored(study, storage, of_adapters=False), confirm=confirm), trial))
