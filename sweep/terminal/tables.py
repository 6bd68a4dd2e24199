"""Tables for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sweep.answer.target_sets import TargetSetResult, target_set_results
from sweep.storage.summary import StudySummary
from sweep.text import count, printable

STRIP_WIDTH, NARROWEST_STRIP, TERMINAL_WIDTH = 20, 8, 80


def study_table(summary: StudySummary) -> RenderableType:
    """The per-rank table, with what a reader needs to know to read it."""
    shown = [value for rank in summary.ranks for value in rank.values]
    shown += [] if summary.baseline is None else [summary.baseline]
    places, bottom, top = summary.decimals, min(shown, default=0.0), max(shown, default=0.0)
    table = Table(
        title=f"study {summary.study}: held-out reward by rank",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("r", "trials", "collapsed", "mean"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("every trial", no_wrap=True)
    table.add_column("best", justify="right", no_wrap=True)
    sets = target_set_results(summary)
    table.add_column("at alpha, rate, modules" if sets else "at alpha, rate", no_wrap=not sets)
    longest = max((len(result.name) + 2 for result in sets), default=0)
    widest = max((len(f"{value:.{places}f}") for value in shown), default=0)
    # What the other columns hold, with a space and a border each.
    width = max(NARROWEST_STRIP, min(STRIP_WIDTH, TERMINAL_WIDTH - 2 * max(widest, 4) - 50 - longest))
    for rank in summary.ranks:
        table.add_row(
            str(rank.r) + ("" if rank.tuned else "*"),
            str(rank.n),
            str(rank.collapsed),
            "" if rank.mean_without_collapsed is None else f"{rank.mean_without_collapsed:.{places}f}",
            value_strip(rank.values, bottom=bottom, top=top, baseline=summary.baseline, width=width),
            f"{rank.best.value:.{places}f}",
            f"{rank.best.alpha}, {rank.best.learning_rate:g}"
            + (f", {rank.best.target_modules}" if sets and rank.best.target_modules else "")
            + ", rsLoRA" * bool(rank.best.use_rslora),
        )
    warning = [Text(summary.pruner_warning, style="yellow")] if summary.pruner_warning else []
    if sets:
        return Group(table, _sets_table(sets, places), *warning, *(Text(line, style="dim") for line in _notes(summary)))
    return Group(table, *warning, *(Text(line, style="dim") for line in _notes(summary)))


def _sets_table(sets: Sequence[TargetSetResult], places: int) -> Table:
    """A row for each set of target modules, over all ranks."""
    table = Table(
        title="by target modules; parameters: of the largest adapter",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("modules", overflow="fold")
    for name in ("parameters", "trials", "collapsed", "mean", "best"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("at r, alpha, rate", no_wrap=True)
    for each in sets:
        most, best = each.most_parameters, each.best
        table.add_row(
            each.name,
            "" if most is None else count(most),
            str(each.n),
            str(each.collapsed),
            "" if each.mean is None else f"{each.mean:.{places}f}",
            f"{best.value:.{places}f}",
            f"{best.r}, {best.alpha}, {best.learning_rate:g}",
        )
    return table


def value_strip(
    values: tuple[float, ...], *, top: float, baseline: float | None, bottom: float = 0.0, width: int = STRIP_WIDTH
) -> str:
    """Every value as a mark on a line from `bottom` to `top`: `o` one trial, `8` several, `|` the base policy."""
    cells = [" "] * width

    def cell(value: float) -> int:
        if top <= bottom:  # all the same
            return width // 2
        return min(width - 1, max(0, int((value - bottom) / (top - bottom) * width)))

    if baseline is not None:
        cells[cell(baseline)] = "|"
    # Trials after the base policy: a mark of theirs in the same cell matters more.
    for position, marks in Counter(cell(value) for value in values).items():
        cells[position] = "o" if marks == 1 else "8"
    return "".join(cells).rstrip()


def _notes(summary: StudySummary) -> list[str]:
    baseline = "" if summary.baseline is None else f"base policy {summary.baseline:.{summary.decimals}f} (|); "
    asked, given = summary.config.model.max_lora_rank, summary.config.engine_max_lora_rank
    notes = [
        f"{baseline}max_lora_rank {asked}",
        "mean: of the trials that did not collapse; best: the luckiest trial, not an estimate",
    ]
    if summary.reference is not None:
        notes.append(summary.reference.sentence(summary.decimals))
    planned = summary.config.search.trials
    if summary.ended < planned:
        notes.append(f"search unfinished: {summary.ended} of {planned} trials have ended; `sweep run` continues it")
    if given != asked:
        notes.append(f"the engine's ceiling is {given}: vLLM permits no smaller one")
    untuned = [str(rank.r) for rank in summary.ranks if not rank.tuned]
    if untuned and len(untuned) == len(summary.ranks):
        notes.append("* no rank has been given its whole design, so none is to be compared with another")
    elif untuned:
        notes.append(f"* not tuned like the others, so not to be compared with them: r={', '.join(untuned)}")
    if early := Counter(trial.r for trial in summary.trials if trial.ended_early):
        ranks = ", ".join(f"r={r}: {count}" for r, count in sorted(early.items()))
        notes.append(f"ended early by the pruner, so without a score of the whole budget, and not counted: {ranks}")
    failed = [trial for trial in summary.trials if trial.state == "fail"]
    notes += [f"trial {trial.number} failed: {printable(trial.reason or 'no reason stored')}" for trial in failed[-3:]]
    return notes
