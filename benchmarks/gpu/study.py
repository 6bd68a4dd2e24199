"""The study that the parts measure, made on the spot: a random model of Llama 3.2 1B's shape, prompts and a reward.

Random weights write nonsense, and every completion to its full length: the same work for every learner, and no hub.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.children import last_words
from objectives.memory.config_files import find_config
from objectives.memory.footprint import fit
from objectives.memory.shape import read_shape
from sweep.planning.pack import study_footprint
from sweep.preflight.devices import Device
from sweep.study.reading import load_study

if TYPE_CHECKING:
    from sweep.study.file import StudyFile

SHAPE = "unsloth/Llama-3.2-1B-Instruct"
STEPS = 8
MICRO_BATCHES = (16, 8, 4, 2, 1)
STUDY = """
[study]
name = "gpu_benchmark"
[model]
name = {model}
policy = "peft"
max_lora_rank = 64
dtype = {dtype}
max_seq_length = 384
gpu_memory_utilization = 0.4
[space]
r = [1, 4, 16, 64]
alpha = [32]
alpha_above_ceiling = true
learning_rate = [1e-5]
[task]
name = "dataset"
data = "prompts.jsonl"
reward = ["benchmarks.gpu.study:checksum"]
max_completion_tokens = 256
held_out_prompts = 16
[learner]
name = "packed"
[budget]
steps = {steps}
prompts_per_step = 8
group_size = 8
[search]
trials = 4
points_per_rank = 1
"""


def checksum(completions: list[str], **_: Any) -> list[float]:
    """A reward that hardly two completions share, so that every group has a signal."""
    return [zlib.crc32(text.encode()) % 1000 / 1000 for text in completions]


def make_model(folder: Path) -> str:
    """Saves a random model of the 1B shape, in a process of its own: whoever asks stays light.

    Raises:
        SystemExit: where it cannot be made, with the reason.
    """
    make = [sys.executable, "-m", "objectives.models.make_random", str(folder), "--like", str(find_config(SHAPE))]
    done = subprocess.run(make, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"benchmarks.gpu: the random model could not be made: {last_words(done.stderr)}")
    return str(folder)


def write_study(folder: Path, *, model: str, dtype: str) -> Path:
    """Writes the study and its prompts into a folder.

    Args:
        folder: There already.
        model: A folder or a hub id.
        dtype: The number format that the card computes in.
    """
    prompts = [{"prompt": f"Task {i}: count from {i} to {i + 9}, and name every even number."} for i in range(64)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    path = folder / "gpu_benchmark.toml"
    path.write_text(STUDY.format(model=json.dumps(model), dtype=json.dumps(dtype), steps=STEPS))
    return path


def fitting_micro_batch(path: Path, overrides: Sequence[str], device: Device) -> int:
    """The largest micro-batch that the plan says to fit on a GPU, else the smallest: so everybody runs at its best."""
    for size in MICRO_BATCHES:
        config = read(path, [*overrides, f"learner.micro_batch_size={size}"])
        held = study_footprint(config, read_shape(find_config(config.model.path)), device)
        if fit(held, config.model, memory_bytes=device.memory_bytes).fits:
            return size
    return MICRO_BATCHES[-1]


def read(path: str | Path, overrides: Sequence[str]) -> StudyFile:
    """The study with some settings changed."""
    return load_study(str(path), list(overrides))
