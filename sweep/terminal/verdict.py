"""The verdict and what leads to it, as a person reads it in a terminal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sweep.answer.learning import unlearned_warning
from sweep.answer.paste import ceiling_saving
from sweep.answer.target_sets import adapter_parameters
from sweep.confirmation.outcome import Confirmed, expected_power
from sweep.statistics.collapse import fewest_seeds
from sweep.statistics.guards import Guard
from sweep.statistics.rule import Rule
from sweep.statistics.smoothing import SmoothedSearch
from sweep.statistics.verdict import RankSummary, Verdict
from sweep.storage.summary import StudySummary
from sweep.study.file import StudyFile
from sweep.text import decimals_for, duration, figure, printable

BAR_WIDTH, NARROWEST_BAR, TERMINAL_WIDTH = 14, 6, 80
MARK = " r*"
"""Stands behind the answer."""


def plan_lines(
    search: SmoothedSearch, config: StudyFile, summary: StudySummary, *, rule: Rule, seeds: int, ended: int
) -> list[str]:
    """What is about to run, what it costs, and what it can be expected to show; `ended` trials have run before."""
    places = decimals_for([summary.baseline, *(c.smoothed for c in search.frozen)])
    lines = [
        f"r={c.r}: alpha {c.alpha:g}, learning rate {c.learning_rate:g}{c.words} "
        f"(smoothed search estimate {c.smoothed:.{places}f})"
        for c in search.frozen
    ]
    lines += [f"r={rank.r} is not judged: {rank.reason}" for rank in search.untuned]
    if any(c.point for c in search.frozen):
        lines.append("Ranks are compared, each with the modules and scaling that suit it best; these are not judged.")
    trials = len(search.frozen) * seeds
    seconds = [t.seconds for t in summary.trials if t.seconds and t.state == "complete"]
    # Trials that run at once take that much longer each.
    left = max(0, trials - ended)
    pace_s = left * statistics.median(seconds) / summary.facts.get("slots", 1) if seconds else 0.0
    cost = f", about {duration(pace_s)} at the search's pace" if seconds and left else ""
    begun = f", {left} of them left" if ended else ""
    most = "" if rule.cap is None else "at most "
    lines.append(f"{most}{len(search.frozen)} ranks x {seeds} seeds = {trials} trials{begun}{cost}")
    if rule.cap is not None:
        lines.append("Seeds are added one by one, for the ranks that still need them, until the verdict is settled.")
    if summary.ended < config.search.trials:
        lines.append(
            f"warning: the search is unfinished: {summary.ended} of {config.search.trials} trials have ended; what is "
            "frozen now stays"
        )
    lines += [f"warning: {warning}" for warning in [unlearned_warning(summary)] if warning]
    power = expected_power(search, rule, seeds=seeds, base=summary.base)
    if not math.isnan(power):
        lines.append(
            f"If a rank truly equals the others, this run shows it with probability {power:.2f} "
            f"({declared(rule)}, confidence {rule.confidence:g}, "
            f"{'gain and noise' if rule.gains else 'noise'} as in the search)."
        )
    needed = fewest_seeds(rule.collapse_limit, rule.bound_confidence if rule.cap is None else rule.confidence)
    if seeds < needed:
        lines.append(
            f"warning: {seeds} seeds cannot show a collapse rate within {rule.collapse_limit:g}; {needed} could"
        )
    return lines


def declared(rule: Rule | Verdict) -> str:
    """What the study declared to be as good as the best."""
    return f"tolerance {rule.tolerance:g}" if rule.keep is None else f"keep {rule.keep:g}"


def verdict_report(confirmed: Confirmed, summary: StudySummary) -> RenderableType:
    """The verdict in a sentence, what every rank did, and what to keep in mind."""
    verdict = confirmed.verdict
    known = [rank for rank in verdict.per_rank if rank.mean is not None]
    ends = [end for rank in known for end in (rank.lower, rank.upper, rank.mean) if end is not None]
    places = decimals_for([*ends, verdict.base])
    lines = [Text(verdict.reason, style="bold")]
    if verdict.r is not None and verdict.alpha is not None:
        saving = ceiling_saving(summary.config, r=verdict.r)
        words = printable(confirmed.answer.words) if confirmed.answer else ""
        rate = f"{verdict.learning_rate:g}{words}"
        lines.append(Text(f"r={verdict.r}, alpha {verdict.alpha:g}, learning rate {rate}. {saving}"))
    lines += [Text(f"warning: {warning}", style="yellow") for warning in confirmed.warnings]
    if confirmed.ending:
        lines.append(Text(confirmed.ending))
    if confirmed.horizon.warning:
        lines.append(Text(confirmed.horizon.warning))
    notes = [f"r={rank.r} is not judged: {rank.why_not_judged}" for rank in verdict.per_rank if rank.why_not_judged]
    search_best = max((trial.value for trial in summary.trials if trial.value is not None), default=None)
    best_mean = max((rank.mean for rank in known if rank.mean is not None), default=None)
    if search_best is not None and best_mean is not None:
        notes.append(
            f"the search's best trial had {search_best:.{places}f}; the best rank's mean on fresh seeds is "
            f"{best_mean:.{places}f}"
        )
    if verdict.base is not None:
        kept = "; kept: of the best rank's gain over it" if any(rank.kept is not None for rank in known) else ""
        notes.append(f"base policy on the same seeds {verdict.base:.{places}f}{kept}")
    notes += [_guard_note(verdict, i, guard) for i, guard in enumerate(confirmed.rule.guards)]
    notes.append("intervals leave out collapsed seeds")
    parameters = adapter_parameters(summary)
    return Group(
        *lines,
        _rank_table(confirmed, ends, places),
        *_choices(confirmed, parameters),
        *(Text(note, style="dim") for note in notes),
    )


def _guard_note(verdict: Verdict, i: int, guard: Guard) -> str:
    """What each rank has of a guard's measure, and whether it passes."""
    own = [(rank.r, rank.guards[i]) for rank in verdict.per_rank if rank.guards]
    each = [f"r={r} {figure(of.mean, 3)}{'' if of.passes else ' (not passed)'}" for r, of in own if of.mean is not None]
    return f"{guard.name}, by at most {guard.worse_by:g} worse: {', '.join(each) or 'not measured'}"


def _rank_table(confirmed: Confirmed, ends: Sequence[float], places: int) -> Table:
    """A row for each rank, in 80 columns: where figures are long, intervals are half-widths, and bars shrink."""
    verdict = confirmed.verdict
    names = ["r", "alpha", "rate", "seeds", "collapsed", "mean", f"{100 * verdict.confidence:g}% interval"]
    names += ["kept"] if any(rank.kept is not None for rank in verdict.per_rank) else []
    rows = [_figures(rank, confirmed, places, wide=True) for rank in verdict.per_rank]
    if (width := _room(names, rows)) < NARROWEST_BAR:
        rows = [_figures(rank, confirmed, places, wide=False) for rank in verdict.per_rank]
        width = _room(names, rows)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, justify="left" if name.endswith("interval") else "right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for rank, row in zip(verdict.per_rank, rows, strict=True):
        bar = interval_bar(rank, low=min(ends), high=max(ends), width=min(BAR_WIDTH, width)) if ends else ""
        table.add_row(*row, bar + (MARK if rank.r == verdict.r else ""))
    return table


def _choices(confirmed: Confirmed, parameters: Mapping[tuple[int, str], int]) -> Iterator[Table]:
    """What was searched besides alpha and rate, of each frozen rank, and what its adapter costs; where anything was."""
    frozen = [c for c in confirmed.confirmation.frozen if c.point]
    if not frozen:
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("r", justify="right", no_wrap=True)
    table.add_column("with")
    table.add_column("adapter parameters", justify="right", no_wrap=True)
    for c in frozen:
        cost = parameters.get((c.r, c.target_modules or ""))
        table.add_row(str(c.r), Text(printable(c.words[2:])), "" if cost is None else f"{cost:,}")
    yield table


def _figures(rank: RankSummary, confirmed: Confirmed, places: int, *, wide: bool) -> list[str]:
    """A rank's cells, but for its bar."""
    frozen = {c.r: (f"{c.alpha:g}", f"{c.learning_rate:g}") for c in confirmed.confirmation.frozen}
    row = [str(rank.r), *frozen.get(rank.r, ("", "")), str(rank.n_seeds), str(rank.collapsed)]
    row.append("" if rank.mean is None else f"{rank.mean:.{places}f}")
    if rank.lower is None or rank.upper is None:
        row.append("")
    elif wide:
        row.append(f"{rank.lower:.{places}f} to {rank.upper:.{places}f}")
    else:
        row.append(f"\N{PLUS-MINUS SIGN} {(rank.upper - rank.lower) / 2:.{places}f}")
    if any(other.kept is not None for other in confirmed.verdict.per_rank):
        row.append("" if rank.kept is None else f"{rank.kept:.0%}")
    return row


def _room(names: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Columns of the terminal that are left for bars; negative where the figures alone are too wide."""
    widest = (max(len(row[i]) for row in [names, *rows]) for i in range(len(names)))
    # Rich sets a column, and that of the bars, one space apart from its border, and a border one wide.
    return TERMINAL_WIDTH - sum(widest) - 2 * (len(names) + 1) - 2 - len(MARK)


def interval_bar(rank: RankSummary, *, low: float, high: float, width: int = BAR_WIDTH) -> str:
    """A rank's interval as `---o---` on a line from `low` to `high`; nothing where there is too little room."""
    if rank.mean is None or rank.lower is None or rank.upper is None or high <= low or width < NARROWEST_BAR:
        return ""

    def cell(value: float) -> int:
        return round((value - low) / (high - low) * (width - 1))

    cells = [" "] * width
    cells[cell(rank.lower) : cell(rank.upper) + 1] = "-" * (cell(rank.upper) - cell(rank.lower) + 1)
    cells[cell(rank.mean)] = "o"
    return "".join(cells)
