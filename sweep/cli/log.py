"""`sweep log`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli.options import StorageOption
from sweep.cli.stored import StoredStudyArgument, chosen_study, open_stored
from sweep.storage.default import DEFAULT_STORAGE

if TYPE_CHECKING:
    import optuna

LOOK_S = 0.5


def log(
    study: StoredStudyArgument,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="The trial's number, as in `sweep trials`.")],
    confirm: Annotated[bool, typer.Option("--confirm", help="A trial of the confirmation, not of the search.")] = False,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Print a trial's log, and follow it while the trial runs.

    Examples: `sweep log tiny 3`, `sweep log tiny 0 --confirm`
    """
    from sweep.storage.attributes import LOG, in_log_folder
    from sweep.storage.database import log_folder
    from sweep.text import printable

    stored = chosen_study(open_stored(study, storage, of_adapters=False), confirm=confirm)
    found = _trial(stored, trial)
    path = in_log_folder(found.user_attrs.get(LOG, ""), log_folder(storage, stored.study_name))
    if not path.is_file():
        raise typer.BadParameter(f"trial {trial} has no log: it has not been started, or its log was moved")
    with path.open(encoding="utf-8", errors="replace") as lines:
        while True:
            # Asked before the rest is read: what a trial writes last, it writes before it has ended.
            running = _trial(stored, trial).state.name == "RUNNING"
            typer.echo(printable(lines.read()), nl=False)
            if not running:
                return
            time.sleep(LOOK_S)


def _trial(study: optuna.Study, number: int) -> optuna.trial.FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    if number >= len(trials):
        raise typer.BadParameter(f"no trial {number}; study {study.study_name!r} has {len(trials)}")
    return trials[number]
