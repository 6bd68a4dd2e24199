"""What one more trial in a pack takes in memory, measured and as the planner predicts it.

    python -m benchmarks.memory [--packs 4 8 16 32]

For every pack size a fresh process loads the shipped study `tiny`, engine and all, takes two GRPO steps with that many
trials, and tells the most memory that it ever held. `sweep plan` predicts the slope, for sequences as long as
`model.max_seq_length` allows: here that is their real length. With fewer than four trials, loading is what holds most.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
from pathlib import Path

from benchmarks.process import in_a_process

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

PACKS = (4, 8, 16, 32)
STUDY = ("tiny", ["budget.steps=2", "model.max_seq_length=12"])
"""Seven tokens of prompt and five of completion."""
MIB = 2**20


def main() -> None:
    """Measures and prints a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packs", type=int, nargs="+", default=PACKS)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        print(peak_bytes(arguments.serve))
        return
    measured = {k: in_a_process(__spec__.name, "--serve", str(k)) for k in arguments.packs}
    planned = planned_bytes()
    least = min(measured)
    print(f"{'K':>4}{'peak, MiB':>12}{'over the least':>16}{'planned':>10}")
    for k, held in measured.items():
        print(f"{k:4d}{held / MIB:12.1f}{(held - measured[least]) / MIB:16.1f}{(k - least) * planned / MIB:10.1f}")
    slope = statistics.linear_regression(list(measured), list(measured.values())).slope
    print(f"\none more trial: {slope / MIB:.1f} MiB measured (least squares), {planned / MIB:.1f} MiB planned")
    print(json.dumps({"peak_bytes": measured, "slope_bytes": slope, "planned_slope_bytes": planned}))


def peak_bytes(k: int) -> int:
    """Loads everything, runs k trials at once, and reads the most memory that this process has held."""
    from benchmarks.step import Feed, trial_specs
    from objectives.engines.adapter_files import AdapterFolder
    from objectives.learners.packed.learner import PackedLearner
    from objectives.trial.resources import load
    from sweep.running.scratch import memory_folder
    from sweep.study.reading import load_study

    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        settings = load_study(*STUDY).worker_settings(Path(folder))
        loaded = load(settings, max_loras=k)
        adapters = AdapterFolder(Path(folder) / "adapters")
        PackedLearner(settings=settings, loaded=loaded, adapters=adapters, slots=k).serve(Feed(trial_specs(k)))
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def planned_bytes() -> int:
    """What the planner says of one more slot."""
    from sweep.planning.adapters import plan_model
    from sweep.planning.pack import plan_pack
    from sweep.study.reading import load_study

    config = load_study(*STUDY)
    return plan_pack(config, plan_model(config.model.name).shape, None).per_slot.bytes


if __name__ == "__main__":
    main()
