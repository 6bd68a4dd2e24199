"""What one GPU does, in ten minutes: speed, memory beside the plan, and whether both learners agree.

    python -m benchmarks.gpu

Needs one NVIDIA GPU and the extra `gpu`; no hub. Each part runs in a process of its own, within what is left of the
ten minutes: one that fails or does not get its turn is named, and the others go on. The first run compiles kernels,
which later ones find in vLLM's cache, so a second run gets further. In the working folder it leaves results, up to date
after each part, in `gpu-benchmark.json`, a table to paste in `gpu-benchmark.md`, and all that the parts have printed in
`gpu-benchmark.log`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu import study
from benchmarks.gpu.children import Part, run_part
from benchmarks.gpu.table import markdown, shown
from sweep.preflight.devices import Device
from sweep.preflight.placement import device_here

LIMIT_S = 600.0
PART_S = 240.0
"""No part may take longer: one that hangs should not cost all the others."""
LEAST_S = 20.0
"""With less time than this left, no part is begun: nothing loads so fast."""
OUTPUT = "gpu-benchmark"
CEILINGS = (64, 8, 128, 16, 32)


def main() -> None:
    """Measures every part in turn and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    device = device_here()
    if device is None:
        raise SystemExit("benchmarks.gpu: no NVIDIA GPU that torch is built for; allowed: one GPU and the extra `gpu`")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rank-sweep-gpu-") as folder:
        print("making a random model of Llama 3.2 1B's shape", flush=True)
        model = study.make_model(Path(folder) / "model")
        dtype = "bfloat16" if device.bfloat16 else "float16"
        path = study.write_study(Path(folder), model=model, dtype=dtype)
        results = measure_all(parts(path, device), Path(), limit_s=LIMIT_S - (time.monotonic() - began))
    table = markdown(results)
    Path(f"{OUTPUT}.md").write_text(table, encoding="utf-8")
    print(f"\n{table}\nwritten: {OUTPUT}.json, {OUTPUT}.md and, with what every part printed, {OUTPUT}.log")
    if not any("result" in outcome for outcome in results.values()):
        sys.exit(1)


def parts(path: Path, device: Device) -> list[Part]:
    """Everything that is measured, what matters most first: whatever comes late may find no time left."""
    trl = ("learner.name=trl",)

    def ordered(key: str, name: str, *overrides: str) -> Part:
        size = study.fitting_micro_batch(path, overrides, device)
        order = {"study": str(path), "overrides": [*overrides, f"learner.micro_batch_size={size}"]}
        return Part(key=key, name=name, order=order)

    def packed(slots: int) -> Part:
        return ordered(f"packed_{slots}", "training", f"learner.pack_size={slots}")

    def ceiling(value: int) -> Part:
        ladder = [r for r in (1, 4, 8, 16) if r <= value]
        own = ("model.policy=unsloth", f"model.max_lora_rank={value}", f"space.r={ladder}")
        return ordered(f"ceiling_{value}", "ceiling", *trl, *own)

    tiny = ["model.policy=peft", "model.dtype=auto", "budget.steps=40"]
    first, *others = map(ceiling, CEILINGS)
    return [
        Part(key="versions", name="versions"),
        ordered("rollouts", "rollouts", "learner.pack_size=8"),
        ordered("trl_unsloth", "training", *trl, "model.policy=unsloth"),
        packed(4),
        ordered("trl_peft", "training", *trl),
        first,
        Part(key="equality", name="equality", order={"overrides": tiny, "seeds": 8}),
        packed(8),
        packed(1),
        *others,
    ]


def measure_all(todo: Sequence[Part], folder: Path, *, limit_s: float) -> dict[str, Any]:
    """Runs parts in turn. Results so far are written after each of them.

    Args:
        todo: The parts.
        folder: For results and the log.
        limit_s: Seconds for all of them.
    """
    ends, log, results = time.monotonic() + limit_s, folder / f"{OUTPUT}.log", dict[str, Any]()
    log.write_text("", encoding="utf-8")
    for part in todo:
        left = ends - time.monotonic()
        if left < LEAST_S:
            results[part.key] = {"seconds": 0.0, "error": "not begun: no time left"}
        else:
            results[part.key] = run_part(part, limit_s=min(left, PART_S), log=log).as_json()
        (folder / f"{OUTPUT}.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        print(f"{part.key}: {shown(results[part.key])}", flush=True)
    return results


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(f"benchmarks.gpu: interrupted; what was measured is in {OUTPUT}.json") from None
