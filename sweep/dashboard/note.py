"""The study's note: what has been found, in the Markdown that the dashboard shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sweep.answer.paste import ceiling_saving, paste_verdict
from sweep.terminal.shown import as_text
from sweep.terminal.verdict import verdict_report

if TYPE_CHECKING:
    from sweep.confirmation.outcome import Confirmed
    from sweep.storage.summary import StudySummary


def study_note(summary: StudySummary, confirmed: Confirmed | None, *, confirm_with: str | None) -> str:
    """The verdict with the calls to paste, or how to get one.

    Args:
        summary: The search.
        confirmed: What its confirmation has come to, where it has one.
        confirm_with: The command that confirms it; None where that is not known.
    """
    if confirmed is None:
        parts = [
            f"# {escaped(summary.study)}: no verdict yet",
            "The best trial of a search is the luckiest. This runs every rank on fresh seeds and gives the verdict:",
            fenced(confirm_with, "bash") if confirm_with else "`sweep confirm`, given the study's file.",
        ]
        return "\n\n".join(parts)
    verdict, study = confirmed.verdict, summary.config
    parts = [
        f"# {escaped(summary.study)}: {verdict.answer}",
        fenced(as_text(verdict_report(confirmed, summary)), "text"),
    ]
    if verdict.r is not None and verdict.alpha is not None:
        parts.append(fenced(paste_verdict(study, confirmed), "python"))
        words = escaped(confirmed.answer.words) if confirmed.answer else ""
        parts.append(f"Learning rate {verdict.learning_rate:g}{words}. {escaped(ceiling_saving(study, r=verdict.r))}")
    return "\n\n".join(parts)


def escaped(text: str) -> str:
    """Text of unknown origin as Markdown that shows it letter by letter, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$-])", r"\\\1", " ".join(text.split()))


def fenced(text: str, language: str) -> str:
    """Text of unknown origin as a block of code that nothing in it can end."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
