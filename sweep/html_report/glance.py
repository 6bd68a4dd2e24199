"""What one has to know of a study, at a glance: the answer, what it keeps, what it saves, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass

from sweep.answer.paste import lower_ceiling
from sweep.answer.spending import Spending
from sweep.html_report.contents import Evidence, Report
from sweep.statistics.verdict import Verdict
from sweep.study.file import StudyFile
from sweep.text import count, duration, money, percent, size


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A figure, what it is, and what to read it against."""

    title: str
    value: str
    note: str


def glance(report: Report, *, price: float | None) -> list[Fact]:
    """The page's first figures.

    Args:
        report: The study.
        price: Money per device hour; None where the user named none.
    """
    evidence, facts = report.evidence, []
    verdict = None if evidence.confirmed is None else evidence.confirmed.verdict
    if verdict is not None:
        facts.append(Fact(title="r*, the answer", value=verdict.answer, note=_declared(verdict)))
        if verdict.r is not None:
            facts += [*_kept(verdict), *_memory(evidence.config, verdict.r)]
    if report.spending.trials:
        facts.append(_spent(evidence, report.spending, price))
    return facts


def _declared(verdict: Verdict) -> str:
    if verdict.keep is None:
        return f"the smallest rank shown to be within {verdict.tolerance:g} of the best"
    return f"the smallest rank shown to keep {percent(verdict.keep)} of the best gain"


def _kept(verdict: Verdict) -> list[Fact]:
    [rank] = [rank for rank in verdict.per_rank if rank.r == verdict.r]
    if rank.kept is None:
        return []
    shown = f"more than {percent(verdict.keep)}" if verdict.keep is not None else f"within {verdict.tolerance:g}"
    return [
        Fact(
            title="of the best gain, kept",
            value=f"{100 * rank.kept:.0f} %",
            note=f"shown to be {shown} with {percent(verdict.confidence)} confidence, {rank.n_seeds} seeds",
        )
    ]


def _memory(config: StudyFile, r: int) -> list[Fact]:
    lower = lower_ceiling(config, r=r)
    if lower is None:
        return []
    same = lower.needed == lower.now
    against = "the study's own ceiling" if same else f"{size(lower.bytes_now)} at the study's {lower.now}"
    note = f"at max_lora_rank {lower.needed}; {against}"
    return [Fact(title="adapter memory", value=size(lower.bytes_needed), note=note)]


def _spent(evidence: Evidence, spent: Spending, price: float | None) -> Fact:
    cost = "" if price is None else f"; {money(spent.device_hours * price)} at {price:g} per device hour"
    phases = "search and confirmation" if evidence.confirmation_trials else "search"
    return Fact(
        title="device time so far",
        value=duration(spent.seconds),
        note=f"{count(spent.tokens)} tokens, {spent.trials} trials ({phases}){cost}",
    )
