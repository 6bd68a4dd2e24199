"""A search's verdicts as they are shown: the one that counts, and those beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sweep.confirmation.naming import earlier_confirmations, longer_confirmations
from sweep.confirmation.outcome import Confirmed, read_confirmation
from sweep.storage.summary import stored_config

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherVerdict:
    """A verdict that stands beside the one that counts."""

    name: str
    """Of the study that holds its trials."""
    steps: int | None
    """Of the longer horizon that it is for; None for one from before the search was extended."""
    confirmed: Confirmed

    @property
    def sentence(self) -> str:
        """What it is, and what it says."""
        what = "Before the ladders were made longer" if self.steps is None else f"After {self.steps} steps a trial"
        return f"{what} ({self.name}): {self.confirmed.verdict.reason}"

    def as_json(self) -> dict[str, Any]:
        """The verdict and its seeds."""
        return _verdict_json(self.confirmed) | {"seeds": self.confirmed.seeds}


def _verdict_json(confirmed: Confirmed) -> dict[str, Any]:
    """The verdict, with what else was searched of the configuration that it names."""
    return asdict(confirmed.verdict) | (confirmed.answer.point if confirmed.answer else {})


def other_verdicts(search: optuna.Study) -> list[OtherVerdict]:
    """Verdicts from before a search was extended, the oldest first, then those of longer horizons, the shortest first.

    Each is judged as its own study declared. Confirmations that have none yet are left out.
    """
    stored: list[tuple[int | None, optuna.Study]] = [(None, study) for study in earlier_confirmations(search)]
    stored += longer_confirmations(search).items()
    judged = [(steps, study, read_confirmation(study, stored_config(study))) for steps, study in stored]
    return [
        OtherVerdict(name=study.study_name, steps=steps, confirmed=confirmed)
        for steps, study, confirmed in judged
        if confirmed is not None
    ]


def with_verdict(shown: dict[str, Any], confirmed: Confirmed | None, others: Sequence[OtherVerdict]) -> dict[str, Any]:
    """What `sweep show --json` prints, with the verdict, earlier ones, and each rank's interval from confirmation."""
    verdict = None if confirmed is None else _verdict_json(confirmed)
    by_rank = {} if verdict is None else {rank["r"]: rank for rank in verdict["per_rank"]}
    for rank in shown["ranks"]:
        own = by_rank.get(rank["r"], {})
        rank |= {"confirmed_mean": own.get("mean"), "lower": own.get("lower"), "upper": own.get("upper")}
    if confirmed is not None and verdict is not None:
        for rank in verdict["per_rank"]:
            rank["unscored"] = confirmed.unscored.get(rank["r"])
        verdict |= {
            "base_unscored": confirmed.base_unscored,
            "seeds": confirmed.seeds,
            "looks": list(confirmed.looks),
            "horizon": confirmed.horizon.warning,
            "horizon_r": {f"{share:g}": r for share, r in confirmed.horizon.ranks.items()},
            "warnings": list(confirmed.warnings),
        }
    earlier = {other.name: other.as_json() for other in others if other.steps is None}
    longer = {str(other.steps): other.as_json() for other in others if other.steps is not None}
    return {**shown, "verdict": verdict, "earlier": earlier, "longer": longer}
