"""`sweep extend`."""

from __future__ import annotations

from typing import Annotated

import typer

from sweep.cli.options import SetOption, StorageOption, StudyArgument
from sweep.storage.default import DEFAULT_STORAGE


def extend(
    study: StudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would bring, and change nothing.")] = False,
    overrides: SetOption = [],  # noqa: B006 - typer reads the default, nothing changes it
) -> None:
    """Give a stored study longer ladders: more ranks below the wall, more alphas, learning rates or sets of modules.

    Trials stay as they are, with their numbers and times. `sweep run` then fills the design up for the new rungs and
    goes on. Nothing but ladders may change, and none may lose a rung. After a confirmation was begun, the extended
    study gets another one on fresh seeds, and says so; the earlier verdict is kept and shown as that.

    Examples: `sweep extend tiny --set 'space.r=[1, 2, 4, 8, 16, 64]'`, `sweep extend my_study.toml --dry-run`
    """
    from sweep.cli.pasted import sweep_command
    from sweep.running.extend import extend_study
    from sweep.study.reading import load_study
    from sweep.terminal.extension import extension_lines, file_lines

    extension = extend_study(load_study(study, overrides), storage=storage, dry_run=dry_run)
    for line in extension_lines(extension):
        typer.echo(line)
    if dry_run:
        typer.echo("nothing was changed (--dry-run)")
        return
    for line in file_lines(study, extension.config.search_space().ladders):
        typer.echo(line)
    needed, declared = extension.trials_needed, extension.config.search.trials
    trials = ("--trials", str(needed)) if needed > declared else ()
    command = sweep_command("run", study, *trials, storage=storage, overrides=overrides)
    why = f": {extension.ended} of search.trials={declared} have ended" if trials else ""
    typer.echo(f"next: `{command}` goes on{why}")
