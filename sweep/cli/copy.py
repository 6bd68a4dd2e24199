"""`sweep copy`."""

from __future__ import annotations

from typing import Annotated

import typer

from sweep.cli.options import StorageOption
from sweep.cli.stored import StoredStudyArgument
from sweep.storage.default import DEFAULT_STORAGE


def copy(
    study: StoredStudyArgument,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The storage that is to have the copy.")],
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Copy a stored study, with its confirmation, into another storage.

    Trials arrive with their numbers, times, states, attributes and intermediate values, and the copy goes on as the
    original would. A copy that is cut leaves nothing behind, and none is made over a study of that name. Logs and kept
    adapters are files beside a storage: they stay, and the last line says where.

    Examples: `sweep copy tiny --to postgresql://me@host/sweeps`,
    `sweep copy tiny --storage postgresql://me@host/sweeps --to sqlite:///tiny.db`
    """
    from rich.console import Console

    from sweep.cli.stored import stored_name
    from sweep.running.copy import copy_study

    console = Console(stderr=True, highlight=False)
    for line in copy_study(stored_name(study), storage=storage, to=to, console=console):
        typer.echo(line)
