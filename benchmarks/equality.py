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
    from objectives.engines.adapter_files import AdapterFolder
    from objectives.learners.packed.learner import PackedLearner
    from objectives.trial.resources import load
    from sweep.study.reading import load_study

    with tempfile.TemporaryDirectory() as folder:
        settings = load_study("tiny").worker_settings(Path(folder))
        loaded = load(settings, max_loras=SLOTS)
        from objectives.learners.trl import TrlLearner

        shared = {"settings": settings, "loaded": loaded, "adapters": AdapterFolder(Path(folder) / "adapters")}
        packed, trl = Scores(_specs(seeds)), Scores(_specs(seeds))
        PackedLearner(**shared, slots=SLOTS).serve(packed)
        TrlLearner(**shared).serve(trl)
    differences = [packed.scores[seed] - trl.scores[seed] for seed in range(seeds)]
    low, high = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    print("seed  packed    TRL  packed - TRL")
    for seed, difference in enumerate(differences):
        print(f"{seed:4d}  {packed.scores[seed]:.3f}  {trl.scores[seed]:.3f}  {difference:+.3f}")
    mean = statistics.mean(differences)
    print(f"mean difference {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}")
    scores = {"packed": list(packed.scores.values()), "trl": list(trl.scores.values())}
    print(json.dumps(scores | {"mean_difference": mean, "lower": float(low), "upper": float(high)}))


def _specs(seeds: int) -> list[Any]:
    from objectives.lora import LoraSpec
    from objectives.trial.messages import TrialSpec

    lora = LoraSpec(r=16, alpha=32)
    return [TrialSpec(number=seed, lora=lora, learning_rate=2e-3, seed=seed) for seed in range(seeds)]


if __name__ == "__main__":
    main()
