"""Does every fault to a real study, and prints what came of each as the table of docs/faults.md.

    python -m tests.faults [--kills 20] [--only NAME ...] [--minutes 25]

A fault whose study does not come to what an undisturbed one comes to fails, and so does the command, with exit code 1.
No fault begins after the limit: those that are left are named, and the exit code is 3.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.faults import kills, storage
from tests.faults.study import References

Fault = Callable[[Path, References], str]
MINUTES = 25.0


def faults(number_of_kills: int) -> dict[str, Fault]:
    """Every fault, by what is done."""
    return {
        f"{number_of_kills} random SIGKILLs of supervisor or worker": functools.partial(
            kills.random_kills, kills=number_of_kills
        ),
        **{f"worker killed in {stage}": functools.partial(kills.stage_kills, stage=stage) for stage in kills.STAGES},
        "worker frozen and thawed": kills.frozen_worker,
        "supervisor frozen and thawed": kills.frozen_supervisor,
        "Ctrl-C five times, two workers": kills.interrupts,
        "reward that kills its process": kills.killing_reward,
        "the same study started twice": kills.two_at_once,
        "storage locked by another program": storage.locked_storage,
        "storage deleted": storage.deleted_storage,
        "storage truncated": storage.truncated_storage,
        "disk full for storage, logs and checkpoints": storage.full_disk,
        "shared memory full": storage.full_shared_memory,
        "read-only folder": storage.read_only_folder,
        "clock set forward by a day": storage.clock_set_forward,
    }


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description="Faults, done to a real study.")
    parser.add_argument("--kills", type=int, default=20, help="random kills")
    parser.add_argument("--only", nargs="+", default=[], help="faults whose name holds one of these words")
    parser.add_argument(
        "--minutes", type=float, help=f"begin no fault after so many; default: {MINUTES:g}, above 20 kills no limit"
    )
    given = parser.parse_args()
    failed = left = 0
    limit_s = 60 * (given.minutes if given.minutes is not None else MINUTES if given.kills <= 20 else math.inf)
    started = time.monotonic()
    print("| fault | seconds | what comes of it |\n| --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        references = References(Path(folder))
        for number, (name, fault) in enumerate(faults(given.kills).items()):
            if given.only and not any(word in name for word in given.only):
                continue
            began = time.monotonic()
            if began - started >= limit_s:
                left += 1
                print(f"| {name} | | not run: out of time |", flush=True)
                continue
            try:
                told = fault(Path(folder) / str(number), references)
            except Exception as error:
                traceback.print_exc()
                told, failed = f"**failed**: {type(error).__name__}: {[*str(error).splitlines(), ''][0]}", failed + 1
            print(f"| {name} | {time.monotonic() - began:.0f} | {told} |", flush=True)
    sys.exit(1 if failed else 3 if left else 0)


if __name__ == "__main__":
    main()
