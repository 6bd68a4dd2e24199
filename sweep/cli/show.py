"""`sweep show`."""

from __future__ import annotations

import json

import typer

from sweep.cli.options import DEFAULT_STORAGE, JsonOption, StorageOption
from sweep.cli.stored import StoredStudyArgument, open_stored


def show(study: StoredStudyArgument, storage: StorageOption = DEFAULT_STORAGE, as_json: JsonOption = False) -> None:
    """Show a stored study: held-out reward by rank, every trial counted.

    With `--json`, one object: study, max_lora_rank, engine_max_lora_rank, baseline, trials (number, state, r, alpha,
    learning_rate, seed, value, reason, greedy, collapsed, design, seconds) and ranks (r, n, mean,
    mean_without_collapsed, values, collapsed, tuned).
    """
    from sweep.summary import summarize

    summary = summarize(open_stored(study, storage))
    if as_json:
        typer.echo(json.dumps(summary.as_json(), indent=2))
        return
    from rich.console import Console

    from sweep.tables import study_table

    Console().print(study_table(summary))
