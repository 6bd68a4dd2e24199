"""What loading takes, the first rollout, and the engine's pace with several adapters in one batch."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.ceilings import wrapped

if TYPE_CHECKING:
    from sweep.study.file import StudyFile

ADAPTERS = (1, 4, 8)
REPEATS = 3
RANK = 16


def measure(config: StudyFile, folder: Path, *, sequences: int = 128) -> dict[str, Any]:
    """Loads base and engine as a worker does, and samples `sequences` completions with 1, 4 and 8 adapters in turn.

    Args:
        config: A packed study.
        folder: For adapters and logs.
        sequences: Completions of one rollout.
    """
    from objectives.engines.adapter_files import AdapterFolder
    from objectives.engines.protocol import Sampling
    from objectives.tokenization.tokens import prompt_ids
    from objectives.trial.resources import load, training_rows

    settings = config.worker_settings(folder)
    began = time.perf_counter()
    loaded = load(settings, max_loras=max(ADAPTERS))
    load_s = time.perf_counter() - began
    files = AdapterFolder(folder / "adapters")
    versions = [_publish(loaded.policy, files, number) for number in range(max(ADAPTERS))]
    rows = training_rows(loaded, settings)
    prompts = [prompt_ids(loaded.policy.tokenizer, rows[i % len(rows)]["prompt"]) for i in range(sequences)]
    sampling = Sampling.of(settings.learner, max_tokens=loaded.task.max_completion_tokens, logprobs=True)

    def rollout(adapters: int) -> tuple[float, int]:
        start = time.perf_counter()
        served = [versions[i % adapters] for i in range(sequences)]
        done = loaded.engine.rollout(prompts, served, sampling, range(sequences))
        return time.perf_counter() - start, sum(len(completion.token_ids) for completion in done)

    first_s, _ = rollout(1)
    pace = {}
    for adapters in ADAPTERS:
        rollout(adapters)  # every adapter is loaded the first time that it is asked for
        pace[str(adapters)] = statistics.median(
            tokens / took for took, tokens in (rollout(adapters) for _ in range(REPEATS))
        )
    return {"load_s": load_s, "first_rollout_s": first_s, "sequences": sequences, "tokens_per_s": pace}


def _publish(policy: Any, files: Any, number: int) -> Any:
    model = wrapped(policy, RANK, seed=number)
    version = files.publish(f"adapter-{number}", model, RANK)
    policy.release()
    return version
