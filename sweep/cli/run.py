"""`sweep run`."""

from __future__ import annotations

from typing import Annotated

import typer

from sweep.cli.options import DEFAULT_STORAGE, SetOption, StorageOption, StudyArgument
from sweep.errors import TrialsFailedError


def run(
    study: StudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=1, help="Trials in all, instead of the study's `search.trials`."),
    ] = None,
    overrides: SetOption = [],  # noqa: B006 - typer reads the default, nothing changes it
) -> None:
    """Run a study, or go on with it.

    Every rank first gets the same number of (alpha, learning rate) points; then Optuna's TPE adapts. Each trial wraps
    the base model with a new adapter, trains it by GRPO for the study's budget, and is scored on held-out prompts.

    Ctrl-C stops; the same command goes on from there. Logs lie beside the storage, one for each trial.

    Examples: `sweep run tiny`, `sweep run my_study.toml --trials 12 --set budget.steps=40`
    """
    from rich.console import Console

    from sweep.answer.learning import DesignWatch
    from sweep.cli.pasted import sweep_command
    from sweep.cli.prepared import as_run_here, checked_study, say_what_is_settled
    from sweep.running.progress import make_progress
    from sweep.running.supervisor import Supervisor
    from sweep.search.pruner import make_pruner
    from sweep.search.schedule import SearchSchedule, make_sampler
    from sweep.storage.database import create_or_match_study, log_folder, open_storage, stored_study, study_lock
    from sweep.storage.schema import declared_note
    from sweep.storage.summary import summarize
    from sweep.terminal.tables import study_table

    if trials is not None:
        overrides = [*overrides, f"search.trials={trials}"]
    config = checked_study(study, overrides)
    opened = open_storage(storage, create=True)
    config = as_run_here(config, stored_study(opened, config.study.name))
    console = Console()
    say_what_is_settled(config, console)
    logs = log_folder(storage, config.study.name)
    with study_lock(logs):
        design_size = config.search.points_per_rank * len(config.search_space().r)
        sampler = make_sampler(design_size=design_size, seed=config.study.seed)
        stored = create_or_match_study(opened, config, sampler, pruner=make_pruner(config))
        if note := declared_note(stored):
            console.print(note, markup=False, highlight=False)
        progress = make_progress(console)
        watch = DesignWatch(stored, console)
        schedule = SearchSchedule(config)
        Supervisor(stored, config, schedule, log_folder=logs, progress=progress, after_trial=watch.look).run()
    summary = summarize(stored)
    console.print(study_table(summary))
    watch.say(summary)
    if not summary.ranks:
        reason = next((trial.reason for trial in reversed(summary.trials) if trial.reason), "no reason stored")
        raise TrialsFailedError(f"every trial failed, the last one so: {reason}")
    command = sweep_command("confirm", study, storage=storage, overrides=overrides)
    console.print(
        f"next: `{command}` runs every rank on fresh seeds and gives the verdict", markup=False, soft_wrap=True
    )
