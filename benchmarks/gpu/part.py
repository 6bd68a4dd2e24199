"""One part, in this process: what `benchmarks.gpu` starts for each of them.

python -m benchmarks.gpu.part NAME '{"study": ..., "overrides": [...]}'
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

MARKER = "benchmarks.gpu result: "
"""What the line begins with that holds a part's result: engines and trainers print before and after it."""


def run(name: str, order: dict[str, Any]) -> dict[str, Any]:
    """Measures a part."""
    from benchmarks.gpu import ceilings, rollouts, study, training, versions

    if name == "versions":
        return versions.measure()
    with tempfile.TemporaryDirectory(prefix="rank-sweep-gpu-") as folder:
        if name == "equality":
            return _equality(order, Path(folder))
        config = study.read(order["study"], order["overrides"])
        measures = {"rollouts": rollouts.measure, "training": training.measure, "ceiling": ceilings.measure}
        return measures[name](config, Path(folder))


def _equality(order: dict[str, Any], folder: Path) -> dict[str, Any]:
    from benchmarks.equality import compare
    from benchmarks.gpu.study import read
    from sweep.preflight.number_format import with_dtype
    from sweep.preflight.placement import device_here

    config = with_dtype(read("tiny", order["overrides"]), device_here())
    return compare(config.worker_settings(folder), folder, seeds=order["seeds"])


def main() -> None:
    """Prints the result behind the marker."""
    # On a line of its own, whatever was printed before without ending its line.
    print(f"\n{MARKER}{json.dumps(run(sys.argv[1], json.loads(sys.argv[2])))}", flush=True)


if __name__ == "__main__":
    main()
