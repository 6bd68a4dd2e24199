"""From nothing to a verdict, in units of one naive training: what an answer costs whoever would have trained once.

    python -m benchmarks.verdict_cost [--studies tiny] [--designs sequential fixed] [--workers 1 2]

For each study, in one run: one training the way people do it now (a fresh process with Unsloth, a stock vLLM engine and
TRL's GRPOTrainer, its held-out score at the end), then `sweep verdict` in an empty folder (search, confirmation and
report) with each design of the confirmation and each number of workers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import makespan
from benchmarks.process import in_a_process

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

RANK_64 = 3
"""The number of makespan's first trial at the largest rank."""


def main() -> None:
    """Runs every study and prints a line for each way to its verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", nargs="+", default=["tiny", "tiny_4_symbols", "tiny_1_symbol"])
    parser.add_argument("--designs", nargs="+", choices=("sequential", "fixed"), default=["sequential", "fixed"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1])
    parser.add_argument("--repeats", type=int, default=3, help="naive trainings; their median counts")
    given = parser.parse_args()
    for study in given.studies:
        naive = statistics.median(naive_seconds(study) for _ in range(given.repeats))
        print(f"{study}: one naive training {naive:.0f} s", flush=True)
        for design in given.designs:
            for workers in given.workers:
                seconds, reason = verdict_seconds(study, design=design, workers=workers)
                way = f"{design}, {workers} worker{'s' * (workers > 1)}"
                print(f"  {way}: {seconds:.0f} s, {seconds / naive:.1f} naive trainings. {reason}", flush=True)


def naive_seconds(study: str) -> float:
    """One training in a process of its own, from its start to its end."""
    order = {"study": study, "steps": None, "slots": 1, "way": "naive", "numbers": [RANK_64]}
    began = time.perf_counter()
    in_a_process(makespan.__name__, "--serve", json.dumps(order))
    return time.perf_counter() - began


def verdict_seconds(study: str, *, design: str, workers: int) -> tuple[float, str]:
    """`sweep verdict` in an empty folder: seconds, and the verdict's sentence."""
    sweep = [sys.executable, "-m", "sweep"]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        declared = ["--workers", str(workers), "--set", f"verdict.design={design}"]
        subprocess.run([*sweep, "verdict", study, *declared], cwd=folder, check=True, capture_output=True)
        seconds = time.perf_counter() - began
        shown = subprocess.run(
            [*sweep, "show", study, "--json"], cwd=folder, check=True, capture_output=True, text=True
        )
    return seconds, json.loads(shown.stdout)["verdict"]["reason"]


if __name__ == "__main__":
    main()
