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

    from sweep.checks import check_device, check_generator, check_study
    from sweep.learning import DesignWatch, unlearned_warning
    from sweep.pack_plan import sized_pack
    from sweep.progress import make_progress
    from sweep.pruning import make_pruner
    from sweep.rungs import pruner_warning
    from sweep.schema import declared_note
    from sweep.search import SearchSchedule, make_sampler
    from sweep.storage import create_or_match_study, log_folder, open_storage, study_lock
    from sweep.study_file import load_study
    from sweep.summary import summarize
    from sweep.supervisor import Supervisor
    from sweep.tables import study_table

    if trials is not None:
        overrides = [*overrides, f"search.trials={trials}"]
    config = load_study(study, overrides)
    check_study(config)
    check_device(config)
    config = sized_pack(config)
    check_generator(config)
    console = Console()
    if config.engine_max_lora_rank != config.model.max_lora_rank:
        console.print(
            f"max_lora_rank {config.model.max_lora_rank} is rounded up to {config.engine_max_lora_rank} for the "
            "engine: vLLM permits no value between. The search stays at or below what you asked for.",
            highlight=False,
        )
    opened = open_storage(storage, create=True)
    if config.learner.name == "packed":
        console.print(f"packed: {config.learner.slots} trials at once; `sweep plan` says why", markup=False)
    if warning := pruner_warning(config.search.pruner):
        console.print(warning, style="yellow", highlight=False)
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
    if warning := unlearned_warning(summary):
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)
    command = " ".join(["sweep confirm", study, *(f"--set {override}" for override in overrides)])
    console.print(f"next: `{command}` runs every rank on fresh seeds and gives the verdict", markup=False)
    if not summary.ranks:
        reason = next((trial.reason for trial in reversed(summary.trials) if trial.reason), "no reason stored")
        raise TrialsFailedError(f"every trial failed, the last one so: {reason}")
