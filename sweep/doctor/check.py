"""One thing that was looked at, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """It works, but slower, or with less, than it could."""
    FAULT = "fault"
    """A study would fail because of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check. `found` says what is there, `remedy` what to do about it; empty where all is well."""

    name: str
    status: Status
    found: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """What `sweep doctor --json` prints."""
        return {"name": self.name, "status": self.status.value, "found": self.found, "remedy": self.remedy}


def ok(name: str, found: str) -> Check:
    """A line for what is as it should be."""
    return Check(name=name, status=Status.OK, found=found)


def warning(name: str, found: str, remedy: str) -> Check:
    """It works, but could work better."""
    return Check(name=name, status=Status.WARNING, found=found, remedy=remedy)


def fault(name: str, found: str, remedy: str) -> Check:
    """A study would fail because of it."""
    return Check(name=name, status=Status.FAULT, found=found, remedy=remedy)
