"""Two half-packs in alternation, one rolling out while the other trains, beside one pack that takes turns.

    python -m benchmarks.half_packs [--packs 4 8] [--steps 12] [--repeats 3]

Trials are independent, so the overlap would cost no staleness. The rollout runs in a thread, which shares Python's lock
with training; an engine in a process of its own was tried too, and cost more to talk to than the overlap brought in.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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
        settings = load_study("tiny").worker_settings(Path(folder))
        loaded = load(settings, max_loras=max(arguments.packs))
        adapters = AdapterFolder(Path(folder) / "adapters")
        print(f"ms a step and a trial, medians of {arguments.repeats}\n{'K':>4}{'one pack':>12}{'half-packs':>12}")
        for k in arguments.packs:
            trials = Trials(settings, loaded, adapters, k)
            result[str(k)] = measure(trials, arguments.steps, arguments.repeats)
            trials.close()
            print(f"{k:4d}" + "".join(f"{result[str(k)][way]:12.1f}" for way in ("one_pack", "half_packs")), flush=True)
    print(json.dumps(result))


def measure(trials: Trials, steps: int, repeats: int) -> dict[str, float]:
    """Milliseconds a step and a trial, both ways in turn."""
    ways: dict[str, Callable[[Trials, int], None]] = {"one_pack": one_pack, "half_packs": half_packs}
    seconds: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way(trials, steps)
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
    return {name: 1000 * statistics.median(values) / steps / trials.k for name, values in seconds.items()}


def one_pack(trials: Trials, steps: int) -> None:
    """Rolls out for all, then trains all."""
    for _ in range(steps):
        trials.train(range(trials.k), trials.sample(range(trials.k)))


def half_packs(trials: Trials, steps: int) -> None:
    """Rolls out for one half while the other trains."""
    halves = range(trials.k // 2), range(trials.k // 2, trials.k)
    with ThreadPoolExecutor(1) as rollouts:
        waiting = rollouts.submit(trials.sample, halves[0])
        for turn in range(2 * steps):
            own, other = halves[turn % 2], halves[1 - turn % 2]
            samples = waiting.result()
            if turn + 1 < 2 * steps:
                waiting = rollouts.submit(trials.sample, other)
            trials.train(own, samples)


class Trials:
    """The trials of a pack, put together as the packed learner does, without its bookkeeping."""

    def __init__(self, settings: Any, loaded: Any, adapters: Any, k: int) -> None:
        from benchmarks.step import Feed, trial_specs
        from objectives.learners.packed.learner import PackedLearner
        from objectives.learners.packed.linear import pack
        from objectives.learners.packed.optimizer import PackedAdamW

        self.k, self._loaded = k, loaded
        self._learner = PackedLearner(settings=settings, loaded=loaded, adapters=adapters, slots=k)
        model = settings.model
        self._packed = pack(loaded.policy.base, model.target_modules, slots=k, r_max=model.max_lora_rank)
        optimizer = PackedAdamW(self._packed.weights, self._packed.gradients)
        self._stepper = self._learner._stepper(self._packed, optimizer)
        loaded.policy.base.train()
        self._feed = Feed(trial_specs(k))
        self._learner._refill(self._feed, self._packed, optimizer)

    def sample(self, slots: Sequence[int]) -> list[Any]:
        """A rollout of some of them."""
        return list(self._learner._sampler.sample([self._learner._runs[slot] for slot in slots]))

    def train(self, slots: Sequence[int], samples: Sequence[Any]) -> None:
        """An optimizer step on a rollout."""
        import torch

        from objectives.learners.packed.scoring import to_batch

        runs = [self._learner._runs[slot] for slot in slots]
        scored = [self._learner._score(self._feed, run, own) for run, own in zip(runs, samples, strict=True)]
        batch, _ = to_batch(
            samples,
            torch.stack([one.rewards for one in scored]),
            self._learner._objective,
            pad=self._loaded.policy.tokenizer.pad_token_id,
            device=self._packed.weights.device,
        )
        self._stepper.step(list(slots), batch)

    def close(self) -> None:
        """Gives the base back."""
        self._packed.unpack()


if __name__ == "__main__":
    main()
