"""`sweep export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli.options import StorageOption, not_an_option
from sweep.cli.stored import StoredStudyArgument, open_stored
from sweep.storage.default import DEFAULT_STORAGE


def export(
    study: StoredStudyArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", callback=not_an_option, help="The folder to write; new or empty.")
    ],
    storage: StorageOption = DEFAULT_STORAGE,
    trial: Annotated[int | None, typer.Option("--trial", min=0, help="Export this trial of the search.")] = None,
    verdict: Annotated[bool, typer.Option("--verdict", help="Export what the verdict names (the default).")] = False,
) -> None:
    """Write what a study found as a folder: the trained adapter, a training script, a model card.

    The folder is an ordinary PEFT adapter, which PEFT and vLLM load as it is. `train.py` trains one like it with
    Unsloth and TRL, for as many steps as you like. `README.md` holds the verdict and what it rests on.

    Adapters are there if the study kept them: `sweep run STUDY --set study.keep_adapters=true`.

    Examples: `sweep export tiny -o tiny-r16`, `sweep export tiny --trial 7 -o trial-7`
    """
    from sweep.confirmation.outcome import stored_confirmation
    from sweep.errors import UsageError
    from sweep.export.folder import exported_trial, exported_verdict, write_export

    if verdict and trial is not None:
        raise UsageError("--verdict and --trial name two things to export; give one")
    stored = open_stored(study, storage)
    if trial is not None:
        exported = exported_trial(stored, trial, url=storage)
    else:
        confirmed = stored_confirmation(stored)
        if confirmed is None:
            raise UsageError(f"study {study!r} has no verdict: `sweep confirm` gives one, --trial exports a trial")
        exported = exported_verdict(confirmed, url=storage)
    write_export(exported, stored, output)
    typer.echo(f"wrote {output}: trial {exported.trial.number}, r={exported.trial.params['r']}")
    if exported.adapter is None:
        typer.echo("no adapter: study.keep_adapters was false when the trial ran; train.py trains one", err=True)
