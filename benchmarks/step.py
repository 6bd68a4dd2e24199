"""Where a GRPO step's time goes: packs of several sizes, beside TRL's trainer on the same engine.

    python -m benchmarks.step [--steps 12] [--repeats 3]

The shipped study `tiny`: 16 prompts x 8 completions a trial and step, one process, one vLLM engine with grouped
adapters. TRL and small packs run trials of four ranks one after another, larger packs the same ranks several times.
Prints milliseconds per step and trial, medians over repeats that take turns. A pack's `reward` includes making text of
tokens, which for TRL is in `other`; its `rollout` is what training waits for, since one half of a pack rolls out while
the other trains.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

PACKS = (1, 2, 4, 8, 16)
PARTS = ("rollout", "reward", "forward_backward", "optimizer", "other")
RANKS = (1, 4, 16, 64)


class Feed:
    """Hands out trials at once, and keeps what they have measured."""

    stopped = False

    def __init__(self, specs: list[Any]) -> None:
        self.specs, self.results = specs, []

    def take(self, block: bool = True) -> Any:  # noqa: D102
        return self.specs.pop(0) if self.specs else None

    def progress(self, *_: Any) -> None:  # noqa: D102
        return None

    note = resumed = progress

    def finish(self, number: int, result: Any) -> None:  # noqa: D102
        self.results.append(result)

    def pruned(self, number: int) -> bool:  # noqa: D102
        return False

    def fail(self, number: int, error: BaseException) -> None:  # noqa: D102
        raise error


class Stopwatch:
    """Adds up the seconds spent in functions that it is put around."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def timed(self, inner: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The same function, timed."""

        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds[part] += time.perf_counter() - start

        return call


def main() -> None:
    """Measures and prints a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--packs", type=int, nargs="+", default=PACKS)
    arguments = parser.parse_args()
    from objectives.engines.adapter_files import AdapterFolder
    from objectives.trial.resources import load
    from sweep.running.scratch import memory_folder
    from sweep.study.reading import load_study

    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        study = load_study("tiny", [f"budget.steps={arguments.steps}", "task.held_out_prompts=64"])
        settings = study.worker_settings(Path(folder))
        loaded = load(settings, max_loras=max(arguments.packs))
        adapters = AdapterFolder(Path(folder) / "adapters")
        runs: dict[str, list[dict[str, float]]] = defaultdict(list)
        for repeat in range(arguments.repeats + 1):
            for name in ("trl", *map(str, arguments.packs)):
                split = measure(name, settings, loaded, adapters)
                if repeat:  # the first round warms up
                    runs[name].append(split)
    report(runs, settings.budget.completions_per_step)


def measure(name: str, settings: Any, loaded: Any, adapters: Any) -> dict[str, float]:
    """Milliseconds per step and a trial, by part."""
    watch, steps, k = Stopwatch(), settings.budget.steps, 1 if name == "trl" else int(name)
    trials = max(k, len(RANKS))
    feed = Feed(trial_specs(trials))
    if name == "trl":
        _watch_trl(watch, settings, loaded, adapters, feed)
    else:
        _watch_pack(watch, settings, loaded, adapters, feed, k)
    seconds = watch.seconds
    seconds["other"] = seconds.pop("all") - seconds.pop("evaluate") - sum(seconds.values())
    return {part: 1000 * value / steps / trials for part, value in seconds.items()}


def trial_specs(k: int) -> list[Any]:
    """So many trials, their ranks in turn."""
    from objectives.lora import LoraSpec
    from objectives.trial.messages import TrialSpec

    return [
        TrialSpec(number=i, lora=LoraSpec(r=RANKS[-1 - i % len(RANKS)], alpha=32), learning_rate=2e-3, seed=i)
        for i in range(k)
    ]


def _watch_trl(watch: Stopwatch, settings: Any, loaded: Any, adapters: Any, feed: Feed) -> None:
    import torch
    from accelerate import Accelerator

    from objectives.learners import trl
    from objectives.rewards.calling import RewardSet

    rewards = RewardSet(
        functions=tuple(_named(watch, function) for function in loaded.rewards.functions),
        weights=loaded.rewards.weights,
    )
    timed = type(loaded)(**{name: getattr(loaded, name) for name in loaded.__slots__} | {"rewards": rewards})
    learner = trl.TrlLearner(settings=settings, loaded=timed, adapters=adapters)
    inner = learner._train

    def train(spec: Any, feed: Any) -> Any:
        with ExitStack() as patches:
            for owner, name, part in (
                (trl.GRPOTrainer, "compute_loss", "forward_backward"),
                (Accelerator, "backward", "forward_backward"),
                (torch.optim.AdamW, "step", "optimizer"),
            ):
                patches.enter_context(mock.patch.object(owner, name, watch.timed(getattr(owner, name), part)))
            result = inner(spec, feed)
        seconds = result.seconds
        watch.seconds["rollout"] += seconds["rollout"]
        watch.seconds["evaluate"] += seconds["evaluate"]
        watch.seconds["all"] += seconds["rollout"] + seconds["train"] + seconds["evaluate"]
        return result

    learner._train = train
    learner.serve(feed)


def _named(watch: Stopwatch, function: Any) -> Any:
    timed = watch.timed(function, "reward")
    timed.__name__ = function.__name__
    return timed


def report(runs: dict[str, list[dict[str, float]]], completions: int) -> None:
    """Prints medians."""
    medians = {
        name: {part: statistics.median(run.get(part, 0.0) for run in measured) for part in PARTS}
        for name, measured in runs.items()
    }
    print(f"ms a step and a trial, {completions} completions a step, medians of {len(next(iter(runs.values())))}")
    print(f"{'':>10}" + "".join(f"{part:>18}" for part in PARTS) + f"{'in all':>10}{'of TRL':>8}")
    whole = {name: sum(split.values()) for name, split in medians.items()}
    for name, split in medians.items():
        title = "TRL" if name == "trl" else f"K={name}"
        print(
            f"{title:>10}"
            + "".join(f"{split[part]:18.1f}" for part in PARTS)
            + f"{whole[name]:10.1f}{whole[name] / whole['trl']:8.0%}"
        )
    print(json.dumps({name: split | {"all": whole[name]} for name, split in medians.items()}))


def _watch_pack(watch: Stopwatch, settings: Any, loaded: Any, adapters: Any, feed: Feed, k: int) -> None:
    from objectives.learners.packed.alternation import Rollouts
    from objectives.learners.packed.learner import PackedLearner
    from objectives.learners.packed.linear import Pack
    from objectives.learners.packed.optimizer import PackedAdamW
    from objectives.learners.packed.step import Stepper
    from objectives.learners.packed.training import PackTraining

    with ExitStack() as patches:
        for owner, name, part in (
            (Rollouts, "start", "all"),
            (PackTraining, "_round", "all"),
            (PackTraining, "_score", "reward"),
            (Stepper, "_backward", "forward_backward"),
            (Pack, "collect_gradients", "optimizer"),
            (PackedAdamW, "clip", "optimizer"),
            (PackedAdamW, "step", "optimizer"),
        ):
            patches.enter_context(mock.patch.object(owner, name, watch.timed(getattr(owner, name), part)))
        PackedLearner(settings=settings, loaded=loaded, adapters=adapters, slots=k).serve(feed)
    for result in feed.results:
        for part in ("rollout", "evaluate"):
            watch.seconds[part] += result.seconds[part]


if __name__ == "__main__":
    main()
