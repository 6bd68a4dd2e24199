"""`sweep trials`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli.options import JsonOption, StorageOption
from sweep.cli.stored import StoredStudyArgument, open_stored
from sweep.storage.default import DEFAULT_STORAGE

if TYPE_CHECKING:
    import pandas as pd

INTEGERS = ("r", "alpha", "seed", "steps", "tokens", "adapter_parameters")
"""Columns that pandas turns into floats as soon as one trial has none, as full fine-tuning has no r."""


class Phase(StrEnum):
    """Which of a study's trials."""

    SEARCH = "search"
    CONFIRM = "confirm"
    EARLIER = "earlier"
    LONGER = "longer"
    REFERENCE = "reference"


class State(StrEnum):
    """What has become of a trial."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAIL = "fail"
    RUNNING = "running"
    COLLAPSED = "collapsed"


def trials(
    study: StoredStudyArgument,
    phase: Annotated[
        Phase | None,
        typer.Option(
            "--phase",
            help="List only the search, only the confirmation, only earlier confirmations, which are those from before "
            "`sweep extend`, only longer horizons, which are those of `sweep confirm --steps`, or only full "
            "fine-tuning, which is that of `sweep reference`.",
        ),
    ] = None,
    state: Annotated[
        list[State], typer.Option("--state", help="List only trials in this state; may be repeated.")
    ] = [],  # noqa: B006 - typer reads the default
    r: Annotated[list[int], typer.Option("--r", help="List only trials of this rank; may be repeated.")] = [],  # noqa: B006 - as above
    storage: StorageOption = DEFAULT_STORAGE,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with every column, instead of a table.")] = False,
) -> None:
    """List a stored study's trials, one by one: state, point, seed, held-out reward, gain, time, and why it ended.

    A confirmation's trials have a `c` before their number, as `c3`; those of the first one from before `sweep extend`
    have a `c1/`, as `c1/3`, and those of a horizon of 160 steps `c160s/3`. Those of full fine-tuning, by `sweep
    reference`, have an `f`, as `f3`, and neither r nor alpha. Trials of `sweep add` have a `+` behind their state. The
    time is a trial's share of the device's, as in the report: trials of a pack share it. `--json` and `--csv` print the
    columns of `sweep.results.Results.trials`: a list of objects, or one line per trial. There the phase of a trial
    `c1/3` is `confirm 1`, of `c160s/3` `160 steps`, and of `f3` `reference`.

    Examples: `sweep trials tiny`, `sweep trials tiny --r 4 --state collapsed`, `sweep trials tiny --csv > trials.csv`
    """
    from sweep.results import load_results

    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv are two ways to print; give one")
    frame = load_results(storage, open_stored(study, storage).study_name).trials
    if phase is Phase.EARLIER:
        frame = frame[frame.phase.str.startswith("confirm ")]
    elif phase is Phase.LONGER:
        frame = frame[frame.phase.str.endswith(" steps")]
    elif phase is not None:
        frame = frame[frame.phase == phase.value]
    if r:
        frame = frame[frame.r.isin(r)]
    if state:
        wanted = frame.state.isin([each.value for each in state])
        frame = frame[wanted | (frame.collapsed.astype(bool) if State.COLLAPSED in state else False)]
    if as_json:
        typer.echo(_with_integers(frame).to_json(orient="records", date_format="iso", indent=2))
    elif as_csv:
        typer.echo(_with_integers(frame).to_csv(index=False), nl=False)
    else:
        from rich.console import Console

        from sweep.terminal.trials import trials_table

        Console(highlight=False).print(trials_table(frame))


def _with_integers(frame: pd.DataFrame) -> pd.DataFrame:
    """The same for printing: what is counted stays whole also where a trial has none."""
    counted = [name for name in INTEGERS if name in frame and frame[name].dtype.kind == "f"]
    # A storage from elsewhere may hold anything.
    whole = [name for name in counted if (frame[name].dropna() % 1 == 0).all()]
    return frame.astype(dict.fromkeys(whole, "Int64"))
