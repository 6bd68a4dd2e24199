"""What a search should find: every rank at every learning rate of a shipped study, several seeds each.

    python -m benchmarks.grid tiny [--alpha 32] [--seeds 5]

Runs through the same supervisor, worker and storage as `sweep run`, goes on where it was stopped, and prints the mean
of every cell, the best cell of each rank, and the smallest rank whose mean is as good as the best one's, as the study
declares it: by point estimates, without a test.
"""

from __future__ import annotations

import argparse
import json
import statistics
from itertools import product
from typing import Any

import optuna
from rich.console import Console

from objectives.trial.messages import TrialSpec
from sweep.live_display.display import make_progress
from sweep.running.open_study import open_to_run
from sweep.running.recipe import check, settle
from sweep.search.schedule import distributions
from sweep.storage import attributes
from sweep.storage.attributes import REDONE, SEED
from sweep.storage.database import open_storage
from sweep.storage.schema import CURRENT, rule_of
from sweep.study.file import StudyFile
from sweep.study.reading import load_study
from sweep.terminal.verdict import declared

FIRST_SEED = 2_000_000
"""Seeds of a grid meet neither a search's nor a confirmation's."""


class GridSchedule:
    """Every rank at every learning rate, seed by seed."""

    score_after: tuple[int, ...] = ()

    def __init__(self, config: StudyFile, *, alpha: int, seeds: int) -> None:
        self._config = config
        space = config.search_space()
        seed = range(FIRST_SEED, FIRST_SEED + seeds)
        self._cells = [(s, r, rate) for s, rate, r in product(seed, space.learning_rate, space.r)]
        self._alpha = alpha
        self.trials = len(self._cells)

    def queue(self, study: optuna.Study) -> None:
        """See `TrialSchedule.queue`."""
        held = {
            (trial.user_attrs.get(SEED), *(trial.system_attrs["fixed_params"][name] for name in ("r", "learning_rate")))
            for trial in study.get_trials(deepcopy=False)
            if REDONE not in trial.user_attrs
        }
        for seed, r, rate in self._cells:
            if (seed, r, rate) not in held:
                study.enqueue_trial({"r": r, "alpha": self._alpha, "learning_rate": rate}, user_attrs={SEED: seed})

    def next_trial(self, study: optuna.Study) -> optuna.Trial:
        """See `TrialSchedule.next_trial`."""
        return study.ask(distributions(self._config.search_space()))

    def needs(self, spec: TrialSpec) -> bool:
        """See `TrialSchedule.needs`."""
        return True


def main() -> None:
    """Runs the grid and prints tables, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--alpha", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--storage", default="sqlite:///rank-sweep.db")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    config = load_study(arguments.study, arguments.set)
    check(config)
    opened = open_storage(arguments.storage, create=True)
    config = settle(config, None)
    with open_to_run(config, opened, name=f"{config.study.name}.grid") as run:
        schedule = GridSchedule(config, alpha=arguments.alpha, seeds=arguments.seeds)
        run.supervise(schedule, progress=make_progress(Console(highlight=False)))
    report(config, run.study, arguments.alpha)


def report(config: StudyFile, study: optuna.Study, alpha: int) -> None:
    """Prints what every cell came to."""
    cells: dict[tuple[int, float], list[float]] = {}
    for trial in study.get_trials(deepcopy=False):
        if (score := attributes.last_score(trial.user_attrs)) is not None:
            cells.setdefault((trial.params["r"], trial.params["learning_rate"]), []).append(score.sampled)
    space = config.search_space()
    print(f"{study.study_name}: mean held-out reward at alpha {alpha} (standard error), by rank and learning rate")
    print("     r" + "".join(f"{rate:>16g}" for rate in space.learning_rate))
    for r in space.r:
        print(f"{r:6d}" + "".join(f"{_mean_error(cells[r, rate]):>16}" for rate in space.learning_rate))
    best = {r: max(space.learning_rate, key=lambda rate, r=r: statistics.mean(cells[r, rate])) for r in space.r}
    means = {r: statistics.mean(cells[r, best[r]]) for r in space.r}
    trials = study.get_trials(deepcopy=False)
    base = statistics.mean(score.sampled for trial in trials if (score := attributes.base_score(trial.user_attrs)))
    rule = rule_of(config, CURRENT)
    asked = base + rule.share * (max(means.values()) - base) - rule.margin
    good = [r for r in space.r if means[r] > asked]
    print(f"base policy {base:.3f}; smallest rank above {asked:.3f} ({declared(rule)}): {good[0]}")
    recorded: dict[str, Any] = {
        "study": study.study_name,
        "alpha": alpha,
        "base": base,
        "smallest_as_good": good[0],
        "best_by_rank": {r: {"learning_rate": best[r], "mean": means[r]} for r in space.r},
        "cells": [{"r": r, "learning_rate": rate, "scores": scores} for (r, rate), scores in sorted(cells.items())],
    }
    print(json.dumps(recorded))


def _mean_error(scores: list[float]) -> str:
    error = statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else float("nan")
    return f"{statistics.mean(scores):.3f} ({error:.3f})"


if __name__ == "__main__":
    main()
