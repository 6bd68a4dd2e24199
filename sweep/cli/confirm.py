"""`sweep confirm`."""

from __future__ import annotations

from typing import Annotated

import typer

from sweep.cli.options import DEFAULT_STORAGE, SetOption, StorageOption, StudyArgument
from sweep.errors import StudyFileError, TrialsFailedError


def confirm(
    study: StudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=2, help="Seeds a rank in all, instead of `verdict.seeds`; more can be added."),
    ] = None,
    overrides: SetOption = [],  # noqa: B006 - typer reads the default, nothing changes it
) -> None:
    """Run every rank's best configuration on fresh seeds, and give the verdict.

    The best of a search is the luckiest, so it is no answer. This freezes one configuration for each rank that was
    tuned like the others (the best smoothed estimate), runs all of them on the same seeds, and finds the smallest
    rank that has learned and is as good as every other, with a stated confidence. What that costs, and how likely it
    is to find an equal rank equal, is said before anything runs. The rule is the study file's `[verdict]`, set before
    the search.

    Ctrl-C stops; the same command goes on from there. `--seeds 20` later adds seeds and redoes none.
    """
    from rich.console import Console

    from sweep.cli.pasted import sweep_command
    from sweep.cli.prepared import as_run_here, checked_study
    from sweep.confirmation.outcome import confirmation_name, count_look, freeze, read_confirmation, store_frozen
    from sweep.confirmation.schedule import ConfirmSchedule
    from sweep.running.progress import make_progress
    from sweep.running.supervisor import Supervisor
    from sweep.search.schedule import ended_trials
    from sweep.storage.database import (
        create_or_match_study,
        log_folder,
        match_study,
        open_storage,
        open_study,
        study_lock,
    )
    from sweep.storage.schema import as_declared, declared_note, rule_of, schema_of
    from sweep.storage.summary import summarize
    from sweep.terminal.verdict import plan_lines, verdict_report

    config = checked_study(study, overrides)
    console = Console(highlight=False)
    opened = open_storage(storage, create=False)
    searched = open_study(opened, config.study.name)
    config, schema = as_declared(searched, config), schema_of(searched)
    config = as_run_here(config, searched)
    match_study(searched, config)
    if note := declared_note(searched):
        console.print(note, markup=False)
    summary = summarize(searched)
    search = freeze(summary, config)
    name = confirmation_name(config.study.name)
    logs = log_folder(storage, name)
    with study_lock(logs):
        import optuna

        stored = create_or_match_study(opened, config, optuna.samplers.RandomSampler(), name=name, schema=schema)
        search = store_frozen(stored, search)
        if len(search.frozen) < 2:
            again = sweep_command("run", study, storage=storage, overrides=overrides)
            alone = " and ".join(f"r={rank.r}" for rank in search.frozen) or "none"
            raise StudyFileError(
                f"confirm compares ranks, and this search has tuned {alone} alone; `{again}` goes on with it"
            )
        seeds = seeds or config.verdict.seeds
        schedule = ConfirmSchedule(config, search.frozen, seeds=seeds)
        ended = len(ended_trials(stored))
        for line in plan_lines(search, config, summary, rule=rule_of(config, schema), seeds=seeds, ended=ended):
            console.print(line, markup=False)
        Supervisor(stored, config, schedule, log_folder=logs, progress=make_progress(console)).run()
        count_look(stored, seeds)
        confirmed = read_confirmation(stored, config)
    if confirmed is None:
        raise TrialsFailedError("every confirmation trial failed; their logs say why: " + str(logs))
    console.print(verdict_report(confirmed, summary))
    if confirmed.verdict.r is not None:
        command = sweep_command("report", config.study.name, storage=storage)
        console.print(f"next: `{command}` has the calls to paste", markup=False, soft_wrap=True)
