"""Whether a packed trial is the same trial: held-out rewards beside TRL's, same settings, same seeds.

    python -m benchmarks.equality [--seeds 8]

Trials of the shipped study `tiny` at r=16, alpha=32, learning rate 0.002, one process, one engine. Numbers differ from
the first rounding on, so the claim is about means: packed minus TRL, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from scipy import stats

from benchmarks.step import Feed

SLOTS = 4


class Scores(Feed):
    """Keeps each trial's held-out reward."""

    def __init__(self, specs: list[Any]) -> None:
        super().__init__(specs)
        self.scores: dict[int, float] = {}

    def finish(self, number: int, result: Any) -> None:
        """See `TrialFeed.finish`."""
        self.scores[number] = result.held_out.sampled


def main() -> None:
    """Trains all of them twice and prints a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    seeds = parser.parse_args().seeds
    from sweep.study.reading import load_study

    with tempfile.TemporaryDirectory() as folder:
        found = compare(load_study("tiny").worker_settings(Path(folder)), Path(folder), seeds=seeds)
    print("seed  packed    TRL  packed - TRL")
    for seed, (packed, trl) in enumerate(zip(found["packed"], found["trl"], strict=True)):
        print(f"{seed:4d}  {packed:.3f}  {trl:.3f}  {packed - trl:+.3f}")
    interval = f"95 % interval {found['lower']:+.4f} to {found['upper']:+.4f}"
    print(f"mean difference {found['mean_difference']:+.4f}, {interval}")
    print(json.dumps(found))


def compare(settings: Any, folder: Path, *, seeds: int) -> dict[str, Any]:
    """Held-out rewards of the same trials by both learners, and packed minus TRL with its 95 % interval.

    Args:
        settings: A worker's, of the shipped study.
        folder: For adapters.
        seeds: At least 2.
    """
    from objectives.engines.adapter_files import AdapterFolder
    from objectives.learners.packed.learner import PackedLearner
    from objectives.trial.resources import load

    loaded = load(settings, max_loras=SLOTS)
    from objectives.learners.trl import TrlLearner

    shared = {"settings": settings, "loaded": loaded, "adapters": AdapterFolder(folder / "adapters")}
    packed, trl = Scores(_specs(seeds)), Scores(_specs(seeds))
    PackedLearner(**shared, slots=SLOTS).serve(packed)
    TrlLearner(**shared).serve(trl)
    differences = [packed.scores[seed] - trl.scores[seed] for seed in range(seeds)]
    low, high = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    scores = {name: [by.scores[seed] for seed in range(seeds)] for name, by in (("packed", packed), ("trl", trl))}
    return scores | {"mean_difference": statistics.mean(differences), "lower": float(low), "upper": float(high)}


def _specs(seeds: int) -> list[Any]:
    from objectives.lora import LoraSpec
    from objectives.trial.messages import TrialSpec

    lora = LoraSpec(r=16, alpha=32)
    return [TrialSpec(number=seed, lora=lora, learning_rate=2e-3, seed=seed) for seed in range(seeds)]


if __name__ == "__main__":
    main()
