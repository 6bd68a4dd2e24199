"""Half-packs, one rolling out while the other trains, beside one pack that takes turns.

    python -m benchmarks.half_packs [--packs 4 8] [--steps 12] [--repeats 3]

What the packed learner does on a CPU, against the same learner with all slots in one half. Prints milliseconds a step
and a trial, medians over repeats that take turns, evaluation left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import step

os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def main() -> None:
    """Measures and prints a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packs", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    from objectives.adapters import AdapterFolder
    from objectives.loading import load
    from sweep.study_file import load_study
    from sweep.worker_process import memory_folder

    result: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        study = load_study("tiny", [f"budget.steps={arguments.steps}", "task.held_out_prompts=64"])
        settings = study.worker_settings(Path(folder))
        loaded = load(settings, max_loras=max(arguments.packs))
        adapters = AdapterFolder(Path(folder) / "adapters")
        print(f"ms a step and a trial, medians of {arguments.repeats}\n{'K':>4}{'one pack':>12}{'half-packs':>12}")
        for k in arguments.packs:
            result[str(k)] = measure(k, settings, loaded, adapters, arguments.repeats)
            print(f"{k:4d}" + "".join(f"{result[str(k)][way]:12.1f}" for way in ("one_pack", "half_packs")), flush=True)
    print(json.dumps(result))


def measure(k: int, settings: Any, loaded: Any, adapters: Any, repeats: int) -> dict[str, float]:
    """Milliseconds a step and a trial, both ways in turn."""
    from objectives.learners.packed import learner

    ways = {"one_pack": lambda slots, on_gpu: [range(slots)], "half_packs": learner.pack_halves}
    runs: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats + 1):
        for name, halves in ways.items():
            with mock.patch.object(learner, "pack_halves", halves):
                split = step.measure(str(k), settings, loaded, adapters)
            if repeat:  # the first round warms up
                runs[name].append(sum(split.values()))
    return {name: statistics.median(values) for name, values in runs.items()}


if __name__ == "__main__":
    main()
