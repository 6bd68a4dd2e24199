"""`sweep show`."""

from __future__ import annotations

import json

import typer

from sweep.cli.options import JsonOption, StorageOption
from sweep.cli.stored import StoredStudyArgument, open_stored
from sweep.storage.default import DEFAULT_STORAGE


def show(study: StoredStudyArgument, storage: StorageOption = DEFAULT_STORAGE, as_json: JsonOption = False) -> None:
    """Show a stored study: the verdict, if it was confirmed, and held-out reward by rank, every trial counted.

    With `--json`, one object: study, max_lora_rank, engine_max_lora_rank, baseline, pruner, trials (number, state, r,
    alpha, learning_rate, seed, value, reason, greedy, gain, collapsed, ended_early, design, seconds, and where they
    were searched use_rslora, and target_modules with adapter_parameters), ranks (r, n, mean, mean_without_collapsed,
    values, collapsed, ended_early, tuned, and from confirmation lower, upper) and verdict (outcome, r, alpha,
    learning_rate, confidence, keep, tolerance, base, reason, ..., and where they were searched target_modules and
    use_rslora; null before confirmation), and earlier (verdicts from before `sweep extend`, by name) and longer
    (verdicts of `sweep confirm --steps`, by steps); after `sweep reference` also reference (learning_rate, values,
    collapsed, by rate). A trial that the pruner ended has no value: it would be one of a
    shorter budget.

    Examples: `sweep show tiny`, `sweep show tiny --json > tiny.json`
    """
    from sweep.confirmation.outcome import stored_confirmation
    from sweep.confirmation.shown import other_verdicts, with_verdict
    from sweep.search.schedule import missing_design
    from sweep.storage.summary import summarize
    from sweep.storage.trials import read_trials, wanted

    stored = open_stored(study, storage)
    trials = read_trials(stored, curves=False)
    summary = summarize(stored, wanted(trials))
    confirmed, others = stored_confirmation(stored), other_verdicts(stored)
    if as_json:
        typer.echo(json.dumps(with_verdict(summary.as_json(), confirmed, others), indent=2))
        return
    from rich.console import Console

    from sweep.terminal.tables import study_table

    console = Console(highlight=False)
    if confirmed is not None:
        from sweep.terminal.verdict import verdict_report

        console.print(verdict_report(confirmed, summary))
        console.print()
    for other in others:
        console.print(other.sentence, style="dim", markup=False)
    console.print(study_table(summary))
    if missing := missing_design(stored, summary.config, trials):
        told = f"{len(missing)} points of the design have not been run: `sweep run` first, to judge every rank"
        console.print(told, style="dim", markup=False, soft_wrap=True)
    elif confirmed is None and summary.ranks:
        from sweep.cli.pasted import confirm_command

        command = confirm_command(study, summary.config, storage=storage)
        how = "`sweep confirm`, given the study's file," if command is None else f"`{command}`"
        console.print(
            f"no verdict yet: {how} runs every rank on fresh seeds", style="dim", markup=False, soft_wrap=True
        )
