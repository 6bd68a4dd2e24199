"""A study's frames as CSV files that the page carries with it, packed so that it stays small."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass

import pandas as pd

from sweep.html_report.contents import Evidence
from sweep.results import frame_trials

MOST_BYTES = 2_000_000
"""Of packed steps: with more, the page would take seconds to open and be too large for an e-mail."""
MOST_STEPS = 100_000
"""More rows of steps would not fit however well they pack, and writing them takes seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One CSV file."""

    name: str
    rows: int
    packed: str
    """The file, gzipped, in base64: letters and digits that no browser takes for markup. Empty where it is left out."""


def downloads(evidence: Evidence) -> tuple[Download, ...]:
    """Trials and steps of the search and its confirmation, those that have any."""
    study = evidence.summary.study
    trials = {(study, "search"): evidence.trials, (study, "confirm"): evidence.confirmation_trials}
    results = frame_trials(trials)
    found = []
    for name, frame in (("trials", results.trials), ("steps", results.steps)):
        if len(frame):
            packed = _packed(frame) if name == "trials" or len(frame) <= MOST_STEPS else ""
            fits = name == "trials" or len(packed) <= MOST_BYTES
            found.append(Download(name=f"{study}-{name}.csv", rows=len(frame), packed=packed if fits else ""))
    return tuple(found)


def _packed(frame: pd.DataFrame) -> str:
    # Without a time of its own, the same study makes the same page.
    return base64.b64encode(gzip.compress(frame.to_csv(index=False).encode(), mtime=0)).decode()
