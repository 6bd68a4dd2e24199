"""What several workers bring, what checkpoints cost, and what a Ray host adds to a message.

    python -m benchmarks.workers [PART ...]

Parts: `simulated` (workers whose steps sleep: what the supervisor lets through), `two` (one worker and two on this
processor), `checkpoints` (their share of the time), `ray` (needs Ray). Default: all but `ray`.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

from rich.console import Console

from objectives.trial.messages import (
    Finished,
    HeldOutScore,
    Progress,
    Ready,
    SlotFree,
    Start,
    StepMetrics,
    TrialResult,
)
from sweep.live_display.display import LineProgress
from sweep.running.open_study import open_to_run
from sweep.search.schedule import SearchSchedule, make_sampler
from sweep.storage import attributes
from sweep.storage.database import open_storage, open_study
from sweep.study.reading import load_study

STEPS, STEP_S = 40, 0.05
SLEEPING = ["search.trials=48", "search.points_per_rank=12", f"budget.steps={STEPS}", "learner.pack_size=1"]
PAIR = ["search.trials=12", "search.points_per_rank=3"]
REPEATS = 3
INTERVAL_S = 5.0


class SleepingWorkers:
    """Workers whose steps take a while, and nothing of the processor."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._due: dict[int, float] = {}
        self._trial: dict[int, tuple[int, int]] = {}
        self._said: deque[tuple[int, Any]] = deque()

    def __call__(self, settings: Any, log_folder: Path) -> SleepingWorkers:
        """See `Workers`."""
        return self

    def __enter__(self) -> SleepingWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def start(self, k: int) -> None:
        """See `Workers`."""
        self._said += [(k, Ready(baseline=_score(0), facts={})), (k, SlotFree())]

    def receive(self, timeout_s: float) -> tuple[int, Any] | None:
        """See `Workers`."""
        if self._said:
            return self._said.popleft()
        if not self._due:
            return None
        k = min(self._due, key=self._due.__getitem__)
        time.sleep(max(0.0, self._due[k] - time.monotonic()))
        number, step = self._trial[k][0], self._trial[k][1] + 1
        self._said.append((k, Progress(number=number, metrics=_metrics(step))))
        if step == STEPS:
            del self._due[k]
            self._said += [(k, Finished(number=number, result=_result())), (k, SlotFree())]
        else:
            self._trial[k], self._due[k] = (number, step), self._due[k] + STEP_S
        return self._said.popleft()

    def send(self, k: int, message: Any) -> None:
        """See `Workers`."""
        if isinstance(message, Start):
            self._trial[k], self._due[k] = (message.spec.number, 0), time.monotonic() + STEP_S

    def stop(self, k: int) -> None:
        """See `Workers`."""
        self._due.pop(k, None)

    def log(self, k: int) -> str:
        """See `Workers`."""
        return "none"

    def identity(self, k: int) -> int:
        """See `Workers`."""
        return k

    def is_ready(self, k: int) -> bool:
        """See `Workers`."""
        return True


def _score(step: int) -> HeldOutScore:
    return HeldOutScore(step=step, sampled=0.5, greedy=0.5, prompts=1024, spread=0.4)


def _metrics(step: int) -> StepMetrics:
    return StepMetrics(
        step=step, reward=0.5, reward_std=0.1, groups_without_signal=0.0, completion_length=5.0, tokens=step,
        seconds=STEP_S,
    )  # fmt: skip


def _result() -> TrialResult:
    return TrialResult(
        scores=(_score(STEPS),), steps=STEPS, pruned=False, tokens=STEPS, adapter_parameters=1, seconds={},
        base=_score(0),
    )  # fmt: skip


def simulated() -> None:
    """The same study on one and on four workers of equal pace."""
    seconds = {}
    for count in (1, 4):
        with tempfile.TemporaryDirectory() as folder:
            config = load_study("tiny", SLEEPING)
            storage = open_storage(f"sqlite:///{folder}/bench.db", create=True)
            sampler = make_sampler(design_size=48, seed=0)
            with open_to_run(config, storage, sampler=sampler) as run, Path(os.devnull).open("w") as nowhere:
                began = time.monotonic()
                run.supervise(
                    SearchSchedule(config),
                    progress=LineProgress(Console(file=nowhere)),
                    workers=SleepingWorkers(count),  # type: ignore[arg-type]
                )
                seconds[count] = time.monotonic() - began
    ratio = seconds[1] / seconds[4]
    print(f"simulated: {seconds[1]:.1f} s with one worker, {seconds[4]:.1f} s with four: {ratio:.2f} times")


def two() -> None:
    """`tiny` with one worker that has all cores, and with two that share them, in turn, three times: medians."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for count in (1, 2) * REPEATS:
        with tempfile.TemporaryDirectory() as folder:
            _sweep("run", "tiny", "--workers", str(count), *_set(*PAIR), cwd=folder)
            trials = _stored(folder).trials
            began = min(trial.datetime_start for trial in trials)
            seconds[count].append((max(trial.datetime_complete for trial in trials) - began).total_seconds())
    one, both = (statistics.median(each) for each in seconds.values())
    spread = "; ".join(f"{count}: " + ", ".join(f"{each:.0f}" for each in seconds[count]) for count in seconds)
    print(f"two: {one:.0f} s with one worker, {both:.0f} s with two: {one / both:.2f} times ({spread})")


def checkpoints() -> None:
    """Their share of a packed trial's time, written every five seconds; every sixty it is a twelfth of that."""
    with tempfile.TemporaryDirectory() as folder:
        _sweep("run", "tiny", *_set(*PAIR, f"run.checkpoint_s={INTERVAL_S}"), cwd=folder)
        spent: dict[str, float] = {}
        for trial in _stored(folder).trials:
            for name, seconds in trial.user_attrs[attributes.COST]["seconds"].items():
                spent[name] = spent.get(name, 0.0) + seconds
    share = spent.get("checkpoint", 0.0) / sum(spent.values())
    usual = share * INTERVAL_S / 60
    print(f"checkpoints: {share:.2%} of the time at one in {INTERVAL_S:g} s, so {usual:.3%} at one in 60 s")


def ray() -> None:
    """From a message's being there to its being read: by the driver of a host on this machine."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    import ray as package
    from ray.cluster_utils import Cluster

    from sweep.running.ray_host import Host

    class Ticking(Host):
        """Has a message every 50 ms: the time at which it had it."""

        def _listen(self) -> list[Any]:
            time.sleep(0.05)
            return [time.monotonic()]

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    package.init(address=cluster.address, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        settings = load_study("tiny").worker_settings(Path(folder))
        host: Any = package.remote(Ticking).options(num_cpus=1, max_concurrency=8)
        host = host.remote(settings, "0", study_travels=False)
        late = []
        for _ in range(220):
            [sent] = package.get(host.receive.remote())
            late.append(time.monotonic() - sent)
    package.shutdown()
    cluster.shutdown()
    print(f"ray: a message is read {1000 * statistics.median(late[20:]):.1f} ms after it is there (median of 200)")


def _sweep(*arguments: str, cwd: str) -> None:
    program = Path(sys.executable).parent / "sweep"
    subprocess.run([program, *arguments], cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def _set(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def _stored(folder: str) -> Any:
    return open_study(open_storage(f"sqlite:///{folder}/rank-sweep.db", create=False), "tiny")


def main() -> None:
    """See above."""
    parts = {"simulated": simulated, "two": two, "checkpoints": checkpoints, "ray": ray}
    parser = argparse.ArgumentParser(description="Workers, checkpoints, Ray.")
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=["simulated", "two", "checkpoints"])
    for part in parser.parse_args().parts:
        parts[part]()


if __name__ == "__main__":
    main()
