"""The verdict and what leads to it, as a person reads it in a terminal."""

from __future__ import annotations

import math
import statistics

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sweep.confirm import Confirmed, expected_power, rule_of
from sweep.snippet import ceiling_saving
from sweep.statistics.collapse import fewest_seeds
from sweep.statistics.smoothing import SmoothedSearch
from sweep.statistics.verdict import RankSummary
from sweep.study_file import StudyFile
from sweep.summary import StudySummary

BAR_WIDTH = 14


def plan_lines(
    search: SmoothedSearch, config: StudyFile, summary: StudySummary, *, seeds: int, ended: int
) -> list[str]:
    """What is about to run, what it costs, and what it can be expected to show; `ended` trials have run before."""
    verdict = config.verdict
    lines = [
        f"r={c.r}: alpha {c.alpha:g}, learning rate {c.learning_rate:g} (smoothed search estimate {c.smoothed:.3f})"
        for c in search.frozen
    ]
    lines += [f"r={rank.r} is not judged: {rank.reason}" for rank in search.untuned]
    trials = len(search.frozen) * seeds
    seconds = [t.seconds for t in summary.trials if t.seconds and t.state == "complete"]
    # Trials that run at once take that much longer each.
    left = max(0, trials - ended)
    minutes = left * statistics.median(seconds) / summary.facts.get("slots", 1) / 60 if seconds else 0
    cost = f", about {minutes:.0f} min at the search's pace" if seconds and left else ""
    begun = f", {left} of them left" if ended else ""
    lines.append(f"{len(search.frozen)} ranks x {seeds} seeds = {trials} trials{begun}{cost}")
    if summary.ended < config.search.trials:
        lines.append(
            f"warning: the search is unfinished: {summary.ended} of {config.search.trials} trials have ended; what is "
            "frozen now stays"
        )
    power = expected_power(search, config, seeds=seeds)
    if not math.isnan(power):
        lines.append(
            f"a rank exactly as good as the others is found to be with probability {power:.2f} "
            f"(tolerance {verdict.tolerance:g}, confidence {verdict.confidence:g}, noise as in the search)"
        )
    needed = fewest_seeds(verdict.collapse_limit, rule_of(config).bound_confidence)
    if seeds < needed:
        lines.append(
            f"warning: {seeds} seeds cannot show a collapse rate within {verdict.collapse_limit:g}; {needed} could"
        )
    return lines


def verdict_report(confirmed: Confirmed, summary: StudySummary) -> RenderableType:
    """The verdict in a sentence, what every rank did, and what to keep in mind."""
    verdict = confirmed.verdict
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("r", "alpha", "rate", "seeds", "collapsed", "mean"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(f"{100 * verdict.confidence:g}% interval", no_wrap=True)
    table.add_column("", no_wrap=True)
    frozen = {c.r: (f"{c.alpha:g}", f"{c.learning_rate:g}") for c in confirmed.confirmation.frozen}
    known = [rank for rank in verdict.per_rank if rank.mean is not None]
    ends = [end for rank in known for end in (rank.lower, rank.upper, rank.mean) if end is not None]
    for rank in verdict.per_rank:
        mean = "" if rank.mean is None else f"{rank.mean:.3f}"
        interval = "" if rank.lower is None or rank.upper is None else f"{rank.lower:.3f} to {rank.upper:.3f}"
        mark = " r*" if rank.r == verdict.r else ""
        bar = interval_bar(rank, low=min(ends), high=max(ends)) if ends else ""
        alpha, rate = frozen.get(rank.r, ("", ""))
        table.add_row(str(rank.r), alpha, rate, str(rank.n_seeds), str(rank.collapsed), mean, interval, bar + mark)
    lines = [Text(verdict.reason, style="bold")]
    if verdict.r is not None and verdict.alpha is not None:
        saving = ceiling_saving(StudyFile.model_validate(summary.config), r=verdict.r)
        lines.append(Text(f"r={verdict.r}, alpha {verdict.alpha:g}, learning rate {verdict.learning_rate:g}. {saving}"))
    lines += [Text(f"warning: {warning}", style="yellow") for warning in confirmed.warnings]
    if confirmed.horizon.warning:
        lines.append(Text(confirmed.horizon.warning))
    notes = [f"r={rank.r} is not judged: {rank.why_not_judged}" for rank in verdict.per_rank if rank.why_not_judged]
    search_best = max((trial.value for trial in summary.trials if trial.value is not None), default=None)
    best_mean = max((rank.mean for rank in known if rank.mean is not None), default=None)
    if search_best is not None and best_mean is not None:
        notes.append(
            f"the search's best trial had {search_best:.3f}; the best rank's mean on fresh seeds is {best_mean:.3f}"
        )
    notes.append("intervals are those of training that does not collapse")
    return Group(*lines, table, *(Text(note, style="dim") for note in notes))


def interval_bar(rank: RankSummary, *, low: float, high: float) -> str:
    """A rank's interval as `---o---` on a line from `low` to `high`."""
    if rank.mean is None or rank.lower is None or rank.upper is None or high <= low:
        return ""

    def cell(value: float) -> int:
        return round((value - low) / (high - low) * (BAR_WIDTH - 1))

    cells = [" "] * BAR_WIDTH
    cells[cell(rank.lower) : cell(rank.upper) + 1] = "-" * (cell(rank.upper) - cell(rank.lower) + 1)
    cells[cell(rank.mean)] = "o"
    return "".join(cells)
