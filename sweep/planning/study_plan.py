"""A study before anything loads: what will be searched, what it holds in memory, and what it may spend."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from objectives.errors import ModelConfigError, UnknownModelError
from objectives.memory.exact import TrainerMemory, trainer_memory
from objectives.memory.footprint import EngineKind, Fit, Footprint, fit
from sweep.errors import StudyFileError
from sweep.planning.adapters import AdapterPlan, ModelPlan, plan_adapters, read_model
from sweep.planning.measured import Measured
from sweep.planning.notes import plan_notes
from sweep.planning.pack import PackPlan, completion_tokens, plan_pack, study_footprint, with_slots
from sweep.planning.verdict import VerdictPlan, plan_verdict
from sweep.preflight.devices import Device
from sweep.preflight.placement import place
from sweep.preflight.prompts import PromptPlan
from sweep.preflight.worker_places import planned_workers, workers_note
from sweep.study.file import StudyFile
from sweep.study.provenance import Setting


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
    """Of held-out prompts. The base policy's own scores, one a seed and start, come on top."""
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
class MemoryPlan:
    """What a study holds in memory. Only the packed learner has a `pack`, and only a device a `fit`."""

    model: ModelPlan
    engine: EngineKind
    adapters: AdapterPlan
    ceilings: tuple[CeilingPlan, ...]
    trainer: tuple[TrainerMemory, ...]
    pack: PackPlan | None
    footprint: Footprint
    fit: Fit | None

    def as_json(self) -> dict[str, Any]:
        """Its part of what `sweep plan --json` prints."""
        held = self.footprint
        return {
            "model": self.model.as_json(),
            "engine": {"kind": self.engine, "bytes": held.adapters, **self.adapters.as_json()}
            | {"ceilings": [asdict(ceiling) for ceiling in self.ceilings]},
            "trainer": [asdict(rank) | {"bytes": rank.bytes} for rank in self.trainer],
            "pack": None if self.pack is None else self.pack.as_json(),
            "estimates": asdict(held) | {"in_engine": held.in_engine, "in_trainer": held.in_trainer},
            "fit": None if self.fit is None else asdict(self.fit),
        }


WITHOUT_MEMORY: dict[str, Any] = dict.fromkeys(("model", "engine", "trainer", "pack", "estimates", "fit"))
"""The same where the model's shape is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """All of it. `memory` is None where the model's shape is not known, and only a calibration has `measured`.

    `prompts` are known where the data and the model's tokenizer are on this machine.
    """

    study: str
    memory: MemoryPlan | None
    search: SearchPlan
    device: Device | None
    per_trial: Spending
    in_all: Spending
    verdict: VerdictPlan
    notes: tuple[str, ...]
    settings: tuple[Setting, ...]
    workers: int = 1
    """How many run trials at the same time; each holds all of `memory`."""
    prompts: PromptPlan | None = None
    measured: Measured | None = None

    def as_json(self) -> dict[str, Any]:
        """What `sweep plan --json` prints."""
        return {
            "study": self.study,
            "workers": self.workers,
            "search": asdict(self.search),
            **(WITHOUT_MEMORY if self.memory is None else self.memory.as_json()),
            "device": None if self.device is None else asdict(self.device),
            "prompts": None if self.prompts is None else self.prompts.as_json(),
            "budget": {"per_trial": asdict(self.per_trial), "in_all": asdict(self.in_all)},
            "verdict": asdict(self.verdict),
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
        StudyFileError: where the model lacks a target module.
    """
    memory: MemoryPlan | None = None
    unknown: tuple[str, ...] = ()
    try:
        memory = _memory(config, device)
    except UnknownModelError as error:
        unknown = (f"Memory is left out: {error}.",)
    except ModelConfigError as error:
        raise StudyFileError(f"model: {error}") from error
    return StudyPlan(
        study=config.study.name,
        memory=memory,
        search=_search(config),
        device=device,
        workers=planned_workers(config, device),
        per_trial=_spending(config, trials=1),
        in_all=_spending(config, trials=config.search.trials),
        verdict=plan_verdict(config),
        notes=unknown
        + tuple(note for note in (workers_note(config, device),) if note)
        + plan_notes(
            config,
            device=device,
            engine=place(config, device).engine,
            adapters=None if memory is None else memory.adapters,
            completion_tokens=completion_tokens(config),
        ),
        settings=settings,
    )


def _memory(config: StudyFile, device: Device | None) -> MemoryPlan:
    model, pack = read_model(config.model.name), None
    if config.learner.name == "packed":
        pack = plan_pack(config, model.shape, device)
        # What follows is of a pack of this size, not of what the study left open.
        config = with_slots(config, pack.slots)
    adapters = plan_adapters(
        model.shape,
        max_lora_rank=config.model.max_lora_rank,
        max_loras=config.learner.slots,
        dtype=config.model.number_format,
        target_modules=config.model.target_modules,
    )
    held = study_footprint(config, model.shape, device)
    return MemoryPlan(
        model=model,
        engine=place(config, device).engine,
        adapters=adapters,
        ceilings=_ceilings(config, model, adapters, device),
        trainer=tuple(trainer_memory(model.shape, r, config.model.target_modules) for r in config.search_space().r),
        pack=pack,
        footprint=held,
        fit=None if device is None else fit(held, config.model, memory_bytes=device.memory_bytes),
    )


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


def _ceilings(
    config: StudyFile, model: ModelPlan, adapters: AdapterPlan, device: Device | None
) -> tuple[CeilingPlan, ...]:
    held = {
        c.max_lora_rank: study_footprint(config, model.shape, device, max_lora_rank=c.max_lora_rank)
        for c in adapters.ceilings
    }
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
    # Every held-out prompt is answered twice: sampled and greedy.
    evaluations = 2 * config.task.held_out_prompts * trials
    return Spending(
        steps=budget.steps * trials,
        prompts=worker.rollouts * budget.prompts_per_step * trials,
        episodes=worker.episodes * trials,
        completion_tokens=worker.episodes * trials * tokens,
        evaluation_completions=evaluations,
        evaluation_tokens=evaluations * tokens,
    )
