"""What a search should find: every point of a study's ladders, several seeds each.

    python -m benchmarks.grid tiny --seeds 4 --set "space.alpha=[32]"

Runs through the same supervisor, worker and storage as `sweep run`, goes on where it was stopped, and prints a table of
means for every alpha, the best point of each rank, the smallest rank whose mean is as good as the best one's, as the
study declares it (by point estimates, without a test), and how the best learning rate moves with rank.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import optuna
from rich.console import Console

from objectives.trial.messages import TrialSpec
from sweep.errors import SweepError
from sweep.live_display.display import make_progress
from sweep.plots.best_rate import best_rate_info
from sweep.running.open_study import open_to_run
from sweep.running.recipe import check, settle
from sweep.search.design import point_key
from sweep.search.schedule import distributions
from sweep.storage import attributes
from sweep.storage.attributes import REDONE, SEED
from sweep.storage.database import open_storage
from sweep.storage.schema import CURRENT, rule_of
from sweep.storage.summary import summarize
from sweep.study.file import StudyFile
from sweep.study.reading import load_study
from sweep.study.space import Point, alpha_of
from sweep.terminal.verdict import declared
from sweep.text import rung

FIRST_SEED = 2_000_000
"""Seeds of a grid meet neither a search's nor a confirmation's."""


class GridSchedule:
    """Every point of the ladders, seed by seed."""

    score_after: tuple[int, ...] = ()

    def __init__(self, config: StudyFile, *, seeds: int) -> None:
        self._config = config
        space = config.search_space()
        points = space.design(space.settings_per_rank, seed=0)
        self._cells = list(product(range(FIRST_SEED, FIRST_SEED + seeds), points))
        self.trials = len(self._cells)

    def queue(self, study: optuna.Study) -> None:
        """See `TrialSchedule.queue`."""
        held = {
            (trial.user_attrs.get(SEED), point_key(trial.system_attrs["fixed_params"]))
            for trial in study.get_trials(deepcopy=False)
            if REDONE not in trial.user_attrs
        }
        for seed, point in self._cells:
            if (seed, point_key(point)) not in held:
                study.enqueue_trial(point, user_attrs={SEED: seed})

    def next_trial(self, study: optuna.Study) -> optuna.Trial:
        """See `TrialSchedule.next_trial`."""
        return study.ask(distributions(self._config.search_space()))

    def needs(self, spec: TrialSpec) -> bool:
        """See `TrialSchedule.needs`."""
        return True


@dataclass(slots=True)
class Cell:
    """The trials of one point."""

    scores: list[float] = field(default_factory=list)
    collapsed: int = 0

    @property
    def mean(self) -> float:
        """Over all of them."""
        return statistics.mean(self.scores)

    def __str__(self) -> str:
        """Mean, standard error, and how many collapsed, where any did."""
        error = statistics.stdev(self.scores) / len(self.scores) ** 0.5 if len(self.scores) > 1 else float("nan")
        return f"{self.mean:.3f} ({error:.3f}){f' {self.collapsed}c' if self.collapsed else '   '}"


def main() -> None:
    """Runs the grid and prints tables, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--storage", default="sqlite:///rank-sweep.db")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    try:
        run_grid(load_study(arguments.study, arguments.set), arguments.storage, seeds=arguments.seeds)
    except SweepError as error:
        parser.exit(error.exit_code, "".join(f"grid: {line}\n" for line in str(error).splitlines()))


def run_grid(config: StudyFile, storage: str, *, seeds: int) -> None:
    """Runs what is missing of a grid, and reports it.

    Raises:
        SweepError: for what is wrong with the study, the machine or the storage.
    """
    check(config)
    opened = open_storage(storage, create=True)
    config = settle(config, None)
    with open_to_run(config, opened, name=f"{config.study.name}.grid") as run:
        run.supervise(GridSchedule(config, seeds=seeds), progress=make_progress(Console(highlight=False)))
    report(config, run.study)


def report(config: StudyFile, study: optuna.Study) -> None:
    """Prints what every point came to."""
    trials = study.get_trials(deepcopy=False)
    cells: dict[tuple[Any, ...], Cell] = defaultdict(Cell)
    for trial in trials:
        if (score := attributes.last_score(trial.user_attrs)) is not None:
            cell = cells[point_key(trial.params)]
            cell.scores.append(score.sampled)
            cell.collapsed += bool(trial.user_attrs.get(attributes.COLLAPSED))
    space = config.search_space()
    print(f"{study.study_name}: mean held-out reward (standard error), by rank and learning rate; 2c: two collapsed")
    others = {name: ladder for name, ladder in space.ladders.items() if name not in ("r", "learning_rate")}
    for values in product(*others.values()):
        fixed = dict(zip(others, values, strict=True))
        print(", ".join(f"{name} {rung(value)}" for name, value in fixed.items()))
        print("     r" + "".join(f"{rate:>19g}" for rate in space.learning_rate))
        for r in space.r:
            row = [cells[point_key(fixed | {"r": r, "learning_rate": rate})] for rate in space.learning_rate]
            print(f"{r:6d}" + "".join(f"{cell!s:>19}" for cell in row))
    points = space.design(space.settings_per_rank, seed=0)
    best: dict[int, Point] = {
        r: max((point for point in points if point["r"] == r), key=lambda point: cells[point_key(point)].mean)
        for r in space.r
    }
    means = {r: cells[point_key(best[r])].mean for r in space.r}
    base = statistics.mean(score.sampled for trial in trials if (score := attributes.base_score(trial.user_attrs)))
    rule = rule_of(config, CURRENT)
    asked = base + rule.share * (max(means.values()) - base) - rule.margin
    good = [r for r in space.r if means[r] > asked]
    for r, point in best.items():
        print(f"best of r={r}: {means[r]:.3f} at alpha {alpha_of(point)}, rate {point['learning_rate']:g}")
    print(f"base policy {base:.3f}; smallest rank above {asked:.3f} ({declared(rule)}): {good[0]}")
    print(best_rate_info(summarize(study)).sentence)
    recorded: dict[str, Any] = {
        "study": study.study_name,
        "base": base,
        "smallest_as_good": good[0],
        "cells": [dict(key) | {"scores": cell.scores, "collapsed": cell.collapsed} for key, cell in cells.items()],
    }
    print(json.dumps(recorded))


if __name__ == "__main__":
    main()
