"""What two choices of the packed learner are worth: half-packs, and leaving groups without a signal out of the step.

    python -m benchmarks.choices [--packs 4 8] [--steps 80] [--repeats 2]

The learner as it is, beside itself with all slots in one half, so that rollouts and training take turns, and beside
itself with every group in forward and backward passes. Prints milliseconds per step and a trial, medians over repeats
that take turns, evaluation left out. Groups without a signal become more as a policy learns: 80 steps are a trial's.
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

WAYS = ("as_it_is", "one_pack", "every_group")


def main() -> None:
    """Measures and prints a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packs", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    from objectives.engines.adapter_files import AdapterFolder
    from objectives.trial.resources import load
    from sweep.running.scratch import memory_folder
    from sweep.study.reading import load_study

    result: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        study = load_study("tiny", [f"budget.steps={arguments.steps}", "task.held_out_prompts=64"])
        settings = study.worker_settings(Path(folder))
        loaded = load(settings, max_loras=max(arguments.packs))
        adapters = AdapterFolder(Path(folder) / "adapters")
        print(f"ms a step and a trial, medians of {arguments.repeats}")
        print(f"{'K':>4}" + "".join(f"{way:>14}" for way in WAYS))
        for k in arguments.packs:
            result[str(k)] = measure(k, settings, loaded, adapters, arguments.repeats)
            print(f"{k:4d}" + "".join(f"{result[str(k)][way]:14.1f}" for way in WAYS), flush=True)
    print(json.dumps(result))


def measure(k: int, settings: Any, loaded: Any, adapters: Any, repeats: int) -> dict[str, float]:
    """Milliseconds per step and a trial, all ways in turn."""
    from objectives.learners.packed import learner, scoring

    patches = {
        "as_it_is": mock.patch.object(learner, "pack_halves", learner.pack_halves),
        "one_pack": mock.patch.object(learner, "pack_halves", lambda slots, on_gpu: [range(slots)]),
        "every_group": mock.patch.object(scoring, "groups_with_signal", every_group),
    }
    runs: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats + 1):
        for way in WAYS:
            with patches[way]:
                split = step.measure(str(k), settings, loaded, adapters)
            if repeat:  # the first round warms up
                runs[way].append(sum(split.values()))
    return {way: statistics.median(values) for way, values in runs.items()}


def every_group(advantage: Any, objective: Any) -> Any:
    """Leaves no group out."""
    import torch

    groups = torch.arange(advantage.shape[1] // objective.group_size).expand(len(advantage), -1)
    return groups, torch.ones_like(groups)


if __name__ == "__main__":
    main()
