"""What a packed study spends besides GRPO steps and evaluation, and what asking for a trial costs as studies grow.

    python -m benchmarks.overhead [--trials 12]

The first part runs `sweep run tiny` with the packed learner and reads the stored study: a pack's steps are charged to
its trials in shares that add up, so what the shares leave of the time between the first start and the last end went
elsewhere. The second part asks and tells on SQLite storages with 10, 1,000 and 10,000 ended trials.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

SIZES = (10, 1_000, 10_000)
REPEATS = 5
INSIDE = ("seconds_rollout", "seconds_train", "seconds_evaluate")


def main() -> None:
    """Measures both and prints tables, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=12)
    trials = parser.parse_args().trials
    result: dict[str, Any] = outside(trials)
    print(
        f"{trials} packed trials: {result['wall_s']:.0f} s from first start to last end, {result['inside_s']:.0f} s in "
        f"steps and evaluation, {result['outside_share']:.1%} elsewhere"
    )
    print(f"\n{'trials stored':>15}{'ask, ms':>12}{'tell, ms':>12}")
    result["ask_tell"] = {}
    for size in SIZES:
        ask, tell = ask_and_tell(size)
        result["ask_tell"][size] = {"ask_ms": ask, "tell_ms": tell}
        print(f"{size:15,d}{ask:12.0f}{tell:12.0f}", flush=True)
    print(json.dumps(result))


def outside(trials: int) -> dict[str, float]:
    """Runs a packed study through the installed command."""
    from sweep.results import load_results

    with tempfile.TemporaryDirectory() as folder:
        sweep = str(Path(sys.executable).parent / "sweep")
        command = [sweep, "run", "tiny", "--trials", str(trials), "--set", "learner.name=packed"]
        subprocess.run([*command, "--set", "search.points_per_rank=3"], cwd=folder, check=True, capture_output=True)
        frame = load_results(f"sqlite:///{folder}/rank-sweep.db", "tiny").trials
    ends = frame.started + frame.seconds.map(lambda seconds: pd.Timedelta(seconds=seconds))
    wall = (ends.max() - frame.started.min()).total_seconds()
    inside = float(frame[[*INSIDE]].sum().sum())
    return {"wall_s": wall, "inside_s": inside, "outside_share": 1 - inside / wall}


def ask_and_tell(size: int) -> tuple[float, float]:
    """Median milliseconds to ask for a trial and to tell its value, with `size` ended trials stored."""
    from benchmarks.stored import multiply
    from sweep.search.schedule import PointCount, make_sampler, next_trial
    from sweep.storage.database import create_or_match_study, open_storage
    from sweep.study.reading import load_study

    config = load_study("tiny")
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/rank-sweep.db"

        def opened() -> Any:
            storage = open_storage(url, create=True)
            return create_or_match_study(storage, config, make_sampler(design_size=SIZES[0], seed=0))

        study = opened()
        for _ in range(SIZES[0]):
            study.tell(next_trial(study, config, PointCount()), 0.5)
        if size > SIZES[0]:
            multiply(Path(folder) / "rank-sweep.db", size // SIZES[0])
        study = opened()
        asked, told, points = [], [], PointCount()
        for repeat in range(REPEATS + 1):
            start = time.perf_counter()
            trial = next_trial(study, config, points)
            middle = time.perf_counter()
            study.tell(trial, 0.5 + repeat / 100)
            if repeat:  # the first one reads the storage
                asked.append(1000 * (middle - start))
                told.append(1000 * (time.perf_counter() - middle))
    return statistics.median(asked), statistics.median(told)


if __name__ == "__main__":
    main()
