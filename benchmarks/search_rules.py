"""What two rules that would shorten a search would cost: racing within a rank, and stopping TPE.

    python -m benchmarks.grid STUDY --seeds 2
    python -m benchmarks.search_rules STUDY [--storage sqlite:///rank-sweep.db ...]

Reads the trials of a grid over all of a study's ladders. Racing: after a share of the budget, a point whose training
reward trails that of its rank's leader, by a paired t over the last quarter's steps, would end there; how much that
saves, how often it ends the point that would have been best, and what the best one left is short of it. Stopping TPE:
searches are drawn from the grid's cells with its noise, go through Optuna's sampler and the smoothing that freezes
configurations, and are cut after so many trials of TPE; by how much each rank's frozen point is short of its best.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from itertools import product
from typing import Any

import numpy as np
import optuna

from sweep.search.schedule import distributions, make_sampler
from sweep.statistics.smoothing import SearchPoint, freeze_configurations
from sweep.storage import attributes
from sweep.storage.attributes import SEED
from sweep.storage.database import open_storage, open_study
from sweep.study.file import StudyFile
from sweep.study.reading import load_study
from sweep.study.space import alpha_of

Cell = tuple[int, int, float]
"""r, alpha, learning rate."""
SHARES, CRITICAL = (0.25, 0.5, 0.75), (2.0, 3.0, 4.0)


class Grid:
    """The trials of a grid, by point and seed."""

    def __init__(self, name: str, storages: list[str]) -> None:
        self.trials: dict[Cell, dict[int, Any]] = defaultdict(dict)
        for url in storages:
            for trial in open_study(open_storage(url, create=False), f"{name}.grid").get_trials(deepcopy=False):
                if attributes.last_score(trial.user_attrs) is not None:
                    point = trial.params["r"], alpha_of(trial.params) or 0, trial.params["learning_rate"]
                    self.trials[point][trial.user_attrs[SEED]] = trial

    def scores(self, cell: Cell) -> list[float]:
        """Of all its seeds."""
        return [score(trial) for trial in self.trials[cell].values()]

    @property
    def seeds(self) -> list[int]:
        """Those that any trial has."""
        return sorted({seed for trials in self.trials.values() for seed in trials})


def score(trial: optuna.trial.FrozenTrial) -> float:
    """Its held-out score."""
    found = attributes.last_score(trial.user_attrs)
    return float("nan") if found is None else found.sampled


def main() -> None:
    """Reads the grid and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--storage", nargs="+", default=["sqlite:///rank-sweep.db"])
    parser.add_argument("--searches", type=int, default=40, help="searches that are drawn")
    arguments = parser.parse_args()
    config, grid = load_study(arguments.study), Grid(arguments.study, arguments.storage)
    racing(config, grid)
    stopping(config, grid, searches=arguments.searches)


def racing(config: StudyFile, grid: Grid) -> None:
    """Prints what racing within a rank would save and lose."""
    steps, quarter = config.budget.steps, config.budget.steps // 4
    print(f"{config.study.name}: racing within a rank")
    print(f"{'looked at':>12}{'t':>5}{'steps saved':>14}{'best ended':>14}{'short, mean':>14}{'most':>8}")
    for share, critical in product(SHARES, CRITICAL):
        at, saved, spent, short, ended_best = round(share * steps), 0, 0, [], 0
        for r, seed in product(config.search_space().r, grid.seeds):
            field = {cell: trials[seed] for cell, trials in grid.trials.items() if cell[0] == r and seed in trials}
            curves = {cell: np.array(trial.user_attrs[attributes.CURVE]["reward"]) for cell, trial in field.items()}
            there = {cell: curve[at - quarter : at] for cell, curve in curves.items() if len(curve) >= at}
            spent += sum(map(len, curves.values()))
            leader = max(there, key=lambda cell: there[cell].mean())
            ended = {cell for cell in there if _trails(there[cell], there[leader], critical)}
            saved += sum(len(curves[cell]) - at for cell in ended)
            best = max(field, key=lambda cell: score(field[cell]))
            ended_best += best in ended
            short.append(score(field[best]) - max(score(field[cell]) for cell in field if cell not in ended))
        print(
            f"{share:11.0%}{critical:6.0f}{saved / spent:14.0%}{f'{ended_best}/{len(short)}':>14}"
            f"{statistics.mean(short):14.3f}{max(short):8.3f}"
        )


def _trails(own: Any, leader: Any, critical: float) -> bool:
    behind = leader - own
    return bool(behind.mean() > critical * behind.std(ddof=1) / len(behind) ** 0.5)


def stopping(config: StudyFile, grid: Grid, *, searches: int) -> None:
    """Prints by how much frozen points are short of the best, by how many trials of TPE followed the design."""
    space, points = config.search_space(), config.search.points_per_rank
    design = space.design(points, seed=config.study.seed)
    counts = (0, 4, 8, 16, 32)
    best = {r: max(statistics.mean(grid.scores(cell)) for cell in grid.trials if cell[0] == r) for r in space.r}
    short: dict[int, list[float]] = defaultdict(list)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for number in range(searches):
        rng = np.random.default_rng(number)
        study = optuna.create_study(direction="maximize", sampler=make_sampler(design_size=len(design), seed=number))
        for point in design:
            study.enqueue_trial(point)
        found = []
        for trials in range(1, len(design) + counts[-1] + 1):
            trial = study.ask(distributions(space))
            cell = trial.params["r"], alpha_of(trial.params) or 0, trial.params["learning_rate"]
            drawn = grid.trials[cell][rng.choice(list(grid.trials[cell]))]
            study.tell(trial, score(drawn))
            collapsed = bool(drawn.user_attrs.get(attributes.COLLAPSED))
            found.append(
                SearchPoint(r=cell[0], alpha=cell[1], learning_rate=cell[2], score=score(drawn), collapsed=collapsed)
            )
            if trials - len(design) in counts:
                for frozen in freeze_configurations(found, space.r, points).frozen:
                    own = statistics.mean(grid.scores((frozen.r, round(frozen.alpha), frozen.learning_rate)))
                    short[trials - len(design)].append(best[frozen.r] - own)
    print(f"{config.study.name}: what a rank's frozen point is short of its best, {searches} searches")
    for count, values in sorted(short.items()):
        error = statistics.stdev(values) / len(values) ** 0.5
        print(f"{count:4d} trials of TPE after {len(design)}: {statistics.mean(values):.4f} ({error:.4f})")


if __name__ == "__main__":
    main()
