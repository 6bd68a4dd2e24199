"""A study before anything loads: what will be searched, what it holds in memory, and what it may spend."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives.errors import ModelConfigError
from objectives.footprint import EngineKind, Fit, Footprint, Workload, engine_kind, fit, footprint
from objectives.memory import TrainerMemory, trainer_memory
from sweep.adapter_plan import AdapterPlan, ModelPlan, plan_adapters, plan_model
from sweep.devices import Device
from sweep.errors import StudyFileError
from sweep.origins import Setting
from sweep.plan_notes import plan_notes
from sweep.study_file import StudyFile

if TYPE_CHECKING:
    from sweep.calibration import Measured

@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """What will be searched, in trials."""

    ladders: dict[str, list[int | float | bool]]
    points_per_rank: int
    design_trials: int
    tpe_trials: int
    trials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What is sampled and trained on. Tokens are an upper bound: every completion of full length."""

    steps: int
    prompts: int
    episodes: int
    completion_tokens: int
    evaluation_completions: int
    """Of held-out prompts. The base policy's own score, once a start, comes on top."""
    evaluation_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingPlan:
    """One ceiling that vLLM permits, for this study's engine."""

    max_lora_rank: int
    bytes: int
    saved_bytes: int
    """Less than under the study's own ceiling; negative for a higher one."""
    largest_r: int | None
    """The largest rank of the study's ladder that it serves; None for none."""
    fit: Fit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """All of it. Without a device there is no `fit`, and without a calibration no `measured`."""

    study: str
    model: ModelPlan
    engine: EngineKind
    adapters: AdapterPlan
    search: SearchPlan
    ceilings: tuple[CeilingPlan, ...]
    trainer: tuple[TrainerMemory, ...]
    footprint: Footprint
    device: Device | None
    fit: Fit | None
    per_trial: Spending
    in_all: Spending
    notes: tuple[str, ...]
    settings: tuple[Setting, ...]
    measured: Measured | None = None

    def as_json(self) -> dict[str, Any]:
        """What `sweep plan --json` prints."""
        held = self.footprint
        return {
            "study": self.study,
            "model": self.model.as_json(),
            "search": asdict(self.search),
            "engine": {"kind": self.engine, "bytes": held.adapters, **self.adapters.as_json()}
            | {"ceilings": [asdict(ceiling) for ceiling in self.ceilings]},
            "trainer": [asdict(rank) | {"bytes": rank.bytes} for rank in self.trainer],
            "estimates": asdict(held) | {"in_engine": held.in_engine, "in_trainer": held.in_trainer},
            "device": None if self.device is None else asdict(self.device),
            "fit": None if self.fit is None else asdict(self.fit),
            "budget": {"per_trial": asdict(self.per_trial), "in_all": asdict(self.in_all)},
            "notes": list(self.notes),
            "settings": [asdict(setting) for setting in self.settings],
            "measured": None if self.measured is None else asdict(self.measured),
        }


def plan_study(config: StudyFile, *, device: Device | None, settings: tuple[Setting, ...]) -> StudyPlan:
    """Plans a study from its file and its model's config.json.

    Args:
        config: The study.
        device: The GPU to plan for; None for the CPU, unless the study needs a GPU.
        settings: What is in force, and where from.

    Raises:
        StudyFileError: where the model has no config.json that memory can be planned for.
    """
    model = plan_model(config.model.name)
    adapters = plan_adapters(
        model.shape,
        max_lora_rank=config.model.max_lora_rank,
        max_loras=config.learner.slots,
        dtype=config.model.dtype,
        target_modules=config.model.target_modules,
    )
    engine = engine_kind(config.model, on_gpu=device is not None or config.model.device == "gpu")
    try:
        ranks = tuple(trainer_memory(model.shape, r, config.model.target_modules) for r in config.search_space().r)
        ceilings = _ceilings(config, model, adapters, engine, device)
        held = _footprint(config, model, engine, adapters.engine_max_lora_rank)
    except ModelConfigError as error:
        raise StudyFileError(f"model: {error}") from error
    per_trial = _spending(config, trials=1)
    return StudyPlan(
        study=config.study.name,
        model=model,
        engine=engine,
        adapters=adapters,
        search=_search(config),
        ceilings=ceilings,
        trainer=ranks,
        footprint=held,
        device=device,
        fit=None if device is None else fit(held, config.model, memory_bytes=device.memory_bytes),
        per_trial=per_trial,
        in_all=_spending(config, trials=config.search.trials),
        notes=plan_notes(
            config, device=device, engine=engine, adapters=adapters, completion_tokens=completion_tokens(config)
        ),
        settings=settings,
    )


def completion_tokens(config: StudyFile) -> int:
    """The longest completion that is sampled, in tokens."""
    stated = getattr(config.task, "max_completion_tokens", None)
    if stated is not None:
        return int(stated)
    from objectives.tasks.string_ops import StringOps

    return StringOps(symbols=1, seed=0).max_completion_tokens


def _search(config: StudyFile) -> SearchPlan:
    space, search = config.search_space(), config.search
    design = search.points_per_rank * len(space.r)
    return SearchPlan(
        ladders={name: list(ladder) for name, ladder in space.ladders.items()},
        points_per_rank=search.points_per_rank,
        design_trials=design,
        tpe_trials=max(0, search.trials - design),
        trials=search.trials,
    )


def _footprint(config: StudyFile, model: ModelPlan, engine: EngineKind, max_lora_rank: int) -> Footprint:
    workload = Workload(
        model=config.model,
        budget=config.budget,
        micro_batch_size=config.learner.micro_batch_size,
        completion_tokens=completion_tokens(config),
        held_out_prompts=config.task.held_out_prompts,
        max_loras=config.learner.slots,
    )
    r = config.search_space().r[-1]
    return footprint(model.shape, workload, engine=engine, max_lora_rank=max_lora_rank, r=r)


def _ceilings(
    config: StudyFile, model: ModelPlan, adapters: AdapterPlan, engine: EngineKind, device: Device | None
) -> tuple[CeilingPlan, ...]:
    held = {c.max_lora_rank: _footprint(config, model, engine, c.max_lora_rank) for c in adapters.ceilings}
    current = held[adapters.engine_max_lora_rank].adapters
    ladder = config.search_space().r
    return tuple(
        CeilingPlan(
            max_lora_rank=ceiling,
            bytes=footprint.adapters,
            saved_bytes=current - footprint.adapters,
            largest_r=max((r for r in ladder if r <= ceiling), default=None),
            fit=None if device is None else fit(footprint, config.model, memory_bytes=device.memory_bytes),
        )
        for ceiling, footprint in held.items()
    )


def _spending(config: StudyFile, *, trials: int) -> Spending:
    budget, tokens = config.budget, completion_tokens(config)
    worker = config.worker_settings(Path())
    evaluations = 2 * config.task.held_out_prompts * trials
    return Spending(
        steps=budget.steps * trials,
        prompts=worker.rollouts * budget.prompts_per_step * trials,
        episodes=worker.episodes * trials,
        completion_tokens=worker.episodes * trials * tokens,
        evaluation_completions=evaluations,
        evaluation_tokens=evaluations * tokens,
    )
