"""What a study gives back: data that prints itself as the command line would, and as HTML in a notebook."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType

from sweep.answer.paste import paste_verdict
from sweep.confirmation.outcome import Confirmed
from sweep.planning.study_plan import StudyPlan
from sweep.storage.summary import StudySummary
from sweep.terminal.plan_summary import plan_summary
from sweep.terminal.shown import as_html, as_text
from sweep.terminal.tables import study_table
from sweep.terminal.verdict import verdict_report


class Shown:
    """Anything that people read in 80 columns."""

    def __init__(self, *parts: RenderableType) -> None:
        self._parts = parts

    def __repr__(self) -> str:
        """As on a terminal."""
        return as_text(*self._parts)

    def _repr_html_(self) -> str:
        return as_html(*self._parts)


class Plan(Shown):
    """What a study will search, hold in memory, spend, and be able to show."""

    def __init__(self, plan: StudyPlan) -> None:
        super().__init__(plan_summary(plan))
        self.plan = plan
        self.notes = plan.notes

    def as_json(self) -> dict[str, Any]:
        """What `sweep plan --json` prints."""
        return self.plan.as_json()


class Table(Shown):
    """A search, rank by rank."""

    def __init__(self, summary: StudySummary) -> None:
        super().__init__(study_table(summary))
        self.summary = summary


class Verdict(Shown):
    """The smallest rank that is as good as the best, and how sure that is. `r` is None where no rank is named."""

    def __init__(self, confirmed: Confirmed, summary: StudySummary) -> None:
        super().__init__(verdict_report(confirmed, summary))
        verdict = confirmed.verdict
        self.confirmed = confirmed
        self.r, self.alpha, self.learning_rate = verdict.r, verdict.alpha, verdict.learning_rate
        self.outcome, self.reason = verdict.outcome, verdict.reason
        self.calls = paste_verdict(summary.config, confirmed)
        """The two calls to paste; empty where no rank is named."""
