"""One trial in this one process, on a processor without AVX-512: what `make test-emulated` runs.

    qemu-x86_64 -cpu Haswell-noTSX .venv/bin/python -m tests.support.emulated_worker

All that a worker imports is imported, the engine starts, a packed step is trained on a rollout with an adapter, and the
adapter is scored. An emulator such as qemu-user does not follow into child processes, so there is none.
"""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

AVX512 = ("_C.abi3.so", "_C_AVX512.abi3.so")
"""vLLM's extensions that such a processor cannot run."""


def main():
    """Runs the trial and fails where anything in it does.

    Raises:
        AssertionError: where this processor has AVX-512 after all, or kernels for it were loaded.
    """
    from objectives.engines.adapter_files import AdapterFolder
    from objectives.learners.build import make_learner
    from objectives.lora import LoraSpec
    from objectives.trial.messages import TrialSpec
    from objectives.trial.resources import load
    from sweep.study.reading import load_study

    overrides = ["budget.steps=1", "budget.prompts_per_step=4", "task.held_out_prompts=8", "learner.pack_size=1"]
    settings = load_study("tiny", overrides).worker_settings(Path(tempfile.mkdtemp(prefix="rank-sweep-")))
    loaded = load(settings)
    import torch

    print(f"loaded; kernels for {torch.backends.cpu.get_cpu_capability()}", flush=True)
    assert not torch.cpu._is_avx512_supported(), "this processor has AVX-512: run it under an emulator"
    files = {line.rpartition("/")[2] for line in Path("/proc/self/maps").read_text().splitlines() if "/vllm/" in line}
    assert not files & set(AVX512), files
    from tests.support.packed_trials import Feed  # imports what Unsloth must come before

    feed = Feed(TrialSpec(number=0, lora=LoraSpec(r=4, alpha=32), learning_rate=2e-3, seed=0))
    make_learner(settings, loaded, AdapterFolder(settings.log_folder / "adapters")).serve(feed)
    assert not feed.failures, feed.failures
    (result,) = feed.results.values()
    print(f"1 passed, 0 failed: trial scored {result.held_out.sampled:.3f} after {result.steps} step")


if __name__ == "__main__":
    main()
