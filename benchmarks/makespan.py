"""The same trials, four ways: how people do it now, and ours.

    python -m benchmarks.makespan [--trials 12] [--ways naive naive_grouped warm_trl packed]

The trials of the shipped study `tiny` (all its ranks, its whole budget), each scored once at its end:

    naive          a fresh process for every trial: Unsloth, a stock vLLM engine, TRL's GRPOTrainer
    naive_grouped  the same, with this project's adapter arithmetic for vLLM on CPUs
    warm_trl       one process for all: the model and the engine are loaded once
    packed         one process, `--slots` trials at once, by default all of them

Everything else is the same: prompts, seeds, budgets, rollouts through one adapter folder in memory, no gradient
checkpointing, no score of the base policy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.process import in_a_process

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

WAYS = ("naive", "naive_grouped", "warm_trl", "packed")


def main() -> None:
    """Runs every way and prints a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--slots", type=int, default=12)
    parser.add_argument("--steps", type=int, default=None, help="GRPO steps a trial; default: the study's")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(json.loads(arguments.serve))
        return
    order = {"steps": arguments.steps, "slots": arguments.slots}
    results: dict[str, Any] = {}
    for way in arguments.ways:
        numbers = list(range(arguments.trials))
        began, scores = time.perf_counter(), {}
        for share in [[n] for n in numbers] if way.startswith("naive") else [numbers]:
            scores |= in_a_process(__spec__.name, "--serve", json.dumps({**order, "way": way, "numbers": share}))
        results[way] = {"seconds": time.perf_counter() - began, "scores": [scores[str(n)] for n in numbers]}
        print(f"{way}: {results[way]['seconds']:.0f} s", flush=True)
    report(results)


def serve(order: dict[str, Any]) -> None:
    """Loads everything, runs the trials, prints their held-out rewards."""
    from benchmarks.equality import Scores
    from objectives.engines.adapter_files import AdapterFolder
    from objectives.trial.resources import load
    from sweep.running.scratch import memory_folder
    from sweep.study.reading import load_study

    way, steps, slots = order["way"], order["steps"], order["slots"]
    study = load_study(order.get("study", "tiny"), [f"budget.steps={steps}"] if steps else [])
    if way == "naive":
        from objectives.engines import vllm

        vllm.use_grouped_adapters = lambda: None
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        settings = study.worker_settings(Path(folder))
        loaded = load(settings, max_loras=slots if way == "packed" else 1)
        shared = {"settings": settings, "loaded": loaded, "adapters": AdapterFolder(Path(folder) / "adapters")}
        feed = Scores([spec(number) for number in order["numbers"]])
        if way == "packed":
            from objectives.learners.packed.learner import PackedLearner

            PackedLearner(**shared, slots=slots).serve(feed)
        else:
            from objectives.learners.trl import TrlLearner

            TrlLearner(**shared).serve(feed)
    print(json.dumps(feed.scores), flush=True)


def spec(number: int) -> Any:
    """The trial of a number: all ranks in turn, at two learning rates."""
    from objectives.lora import LoraSpec
    from objectives.trial.messages import TrialSpec

    ranks, rates = (1, 4, 16, 64), (1e-3, 2e-3)
    return TrialSpec(
        number=number,
        lora=LoraSpec(r=ranks[number % 4], alpha=32),
        learning_rate=rates[number // 4 % 2],
        seed=number // 8,
    )


def report(results: dict[str, Any]) -> None:
    """Prints seconds, ratios and every trial's held-out reward."""
    ways = list(results)
    seconds = {way: results[way]["seconds"] for way in ways}
    print(f"\n{'':>14}{'seconds':>10}{'times packed':>14}{'mean held-out':>15}")
    for way in ways:
        ratio = f"{seconds[way] / seconds['packed']:.2f}" if "packed" in seconds else ""
        print(f"{way:>14}{seconds[way]:10.0f}{ratio:>14}{statistics.mean(results[way]['scores']):15.3f}")
    print("\nheld-out reward of every trial\n     " + "".join(f"{way:>15}" for way in ways))
    for number, scores in enumerate(zip(*(results[way]["scores"] for way in ways), strict=True)):
        print(f"{number:5d}" + "".join(f"{score:15.3f}" for score in scores))
    print(json.dumps({f"{way}_s": seconds[way] for way in ways} | {"scores": {w: results[w]["scores"] for w in ways}}))


if __name__ == "__main__":
    main()
