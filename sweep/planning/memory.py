"""What a study holds in memory, and what fits on a device."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from objectives.memory.exact import TrainerMemory, trainer_memory
from objectives.memory.footprint import EngineKind, Fit, Footprint, fit
from sweep.planning.adapters import AdapterPlan, ModelPlan, plan_adapters, read_model
from sweep.planning.pack import PackPlan, plan_pack, study_footprint, with_slots
from sweep.planning.target_sets import TargetSetCost, target_set_costs, trained_modules
from sweep.preflight.devices import Device
from sweep.preflight.placement import place
from sweep.study.file import StudyFile


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
    """By rank; of several sets of target modules, for the largest, and in packs for all of them: slots are alike."""
    pack: PackPlan | None
    footprint: Footprint
    fit: Fit | None
    target_sets: tuple[TargetSetCost, ...] = ()
    """Of a study that searches them."""

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
            **({"target_sets": [asdict(each) for each in self.target_sets]} if self.target_sets else {}),
        }


WITHOUT_MEMORY: dict[str, Any] = dict.fromkeys(("model", "engine", "trainer", "pack", "estimates", "fit"))
"""The same where the model's shape is not known."""


def plan_memory(config: StudyFile, device: Device | None) -> MemoryPlan:
    """Plans a study's memory from its model's config.json.

    Args:
        config: The study.
        device: The GPU to plan for; None for the CPU, unless the study needs a GPU.

    Raises:
        UnknownModelError: where that file is not here, or of a family without a plan.
        ModelConfigError: where it cannot be read, or the model lacks a target module.
    """
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
        target_modules=config.target_modules,
    )
    held = study_footprint(config, model.shape, device)
    trained = trained_modules(config, model.shape)
    return MemoryPlan(
        model=model,
        engine=place(config, device).engine,
        adapters=adapters,
        ceilings=_ceilings(config, model, adapters, device),
        trainer=tuple(trainer_memory(model.shape, r, trained) for r in config.search_space().r),
        target_sets=target_set_costs(config, model.shape),
        pack=pack,
        footprint=held,
        fit=None if device is None else fit(held, config.model, memory_bytes=device.memory_bytes),
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
