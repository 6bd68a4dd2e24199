"""Full fine-tuning beside the ranks: where it is stored, and what the same budget brings where all weights train."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweep.storage.attributes import COLLAPSED, CONFIG, last_score
from sweep.storage.optuna_internals import study_beside
from sweep.storage.trials import wanted_trials

if TYPE_CHECKING:
    import optuna

SUFFIX = ".reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The trials of one learning rate."""

    learning_rate: float
    values: tuple[float, ...]
    """Held-out rewards, collapsed trials' included."""
    collapsed: int

    @property
    def mean(self) -> float:
        """Over all of them."""
        return statistics.fmean(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What full fine-tuning came to, by learning rate in ascending order; one rate at least."""

    rates: tuple[Rate, ...]

    @property
    def best(self) -> Rate:
        """The rate with the highest mean: the best of a few, so a little luckier than it will be again."""
        return max(self.rates, key=lambda rate: rate.mean)

    def sentence(self, decimals: int) -> str:
        """What to say of it in a line."""
        best, n = self.best, len(self.rates)
        spread = f", sd {statistics.stdev(best.values):.{decimals}f}" if len(best.values) > 1 else ""
        seeds = f"{len(best.values)} seed" + ("s" if len(best.values) > 1 else "")
        spread += f", {best.collapsed} collapsed" if best.collapsed else ""
        of = f", the best of {n} rates" if n > 1 else ""
        return f"full fine-tuning: {best.mean:.{decimals}f} at {best.learning_rate:g}{of} ({seeds}{spread})"

    def as_json(self) -> list[dict[str, Any]]:
        """What `sweep show --json` prints of it."""
        return [
            {"learning_rate": rate.learning_rate, "values": list(rate.values), "collapsed": rate.collapsed}
            for rate in self.rates
        ]


def reference_name(study: str) -> str:
    """The name in storage of a study's trials without adapters."""
    return study + SUFFIX


def is_reference(attributes: dict[str, Any]) -> bool:
    """Whether a stored study holds full fine-tuning, by its user attributes. Anybody may give a study such a name."""
    model = attributes.get(CONFIG, {}).get("model", {})
    return bool(model.get("policy") == "whole")


def reference_study(search: optuna.Study) -> optuna.Study | None:
    """The study that holds them; None where there is none."""
    study = study_beside(search, reference_name(search.study_name))
    return study if study is not None and is_reference(study.user_attrs) else None


def read_reference(search: optuna.Study) -> Reference | None:
    """Reads what `sweep reference` has stored for a search; None where no trial of it has a score."""
    study = reference_study(search)
    values, collapsed = defaultdict[float, list[float]](list), defaultdict[float, int](int)
    for trial in [] if study is None else wanted_trials(study, curves=False):
        if (score := last_score(trial.user_attrs)) is not None:
            rate = trial.params["learning_rate"]
            values[rate].append(score.sampled)
            collapsed[rate] += bool(trial.user_attrs.get(COLLAPSED))
    rates = tuple(
        Rate(learning_rate=rate, values=tuple(own), collapsed=collapsed[rate]) for rate, own in sorted(values.items())
    )
    return Reference(rates=rates) if rates else None
