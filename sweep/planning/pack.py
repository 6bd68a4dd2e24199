"""How many trials a pack takes: as many as there is memory for, within limits that a study can lift."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from objectives.errors import ModelConfigError
from objectives.machine import available_memory
from objectives.memory.footprint import Footprint, Workload, fit, footprint, host_bytes
from objectives.memory.shape import ModelShape
from objectives.settings.grpo import GrpoSettings
from objectives.settings.learner import CPU_SLOTS, MOST_SLOTS
from sweep.errors import StudyFileError
from sweep.planning.adapters import plan_model
from sweep.planning.target_sets import trained_modules
from sweep.preflight.devices import Device
from sweep.preflight.placement import place
from sweep.study.file import StudyFile

GPU_SLOTS = 8
"""Slots of a pack on a GPU, unless the study names another number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotMemory:
    """What one more slot takes, in bytes. Activations are estimates; the rest is exact."""

    engine_adapters: int
    trainer: int
    """Its adapter, gradients and moments, padded to the ceiling."""
    activations: int
    """Of training, where all slots of a half go through one pass, and of the engine."""

    @property
    def bytes(self) -> int:
        """What one more slot takes in all."""
        return self.engine_adapters + self.trainer + self.activations


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPlan:
    """A pack's size, and what it rests on."""

    slots: int
    reason: str
    """Why so many, in words."""
    fitting: int | None
    """As many as there is memory for, an estimate, at most `MOST_SLOTS`; None where the memory is not known."""
    per_slot: SlotMemory

    def as_json(self) -> dict[str, Any]:
        """What `sweep plan --json` prints."""
        return asdict(self) | {"per_slot": asdict(self.per_slot) | {"bytes": self.per_slot.bytes}}


def plan_pack(config: StudyFile, shape: ModelShape, device: Device | None) -> PackPlan:
    """Chooses a pack's size, unless the study names one.

    Args:
        config: A study whose learner is `packed`.
        shape: Of its base model.
        device: The GPU to plan for; None for this machine's own memory, unless the study needs a GPU.

    Raises:
        ModelConfigError: where a target module is not in the model.
    """
    # From two slots to four: a pack of one is not in halves, so what its second slot adds is no measure of the next.
    two, four = (study_footprint(with_slots(config, slots), shape, device) for slots in (2, 4))
    fitting = _fitting(config, shape, device)
    usual = CPU_SLOTS if device is None else GPU_SLOTS
    trials, ranks = config.search.trials, len(config.search_space().r)
    limits = [
        (usual, f"{usual} at most, unless learner.pack_size says otherwise"),
        (max(1, trials // ranks), f"no more than {trials} trials give each of {ranks} ranks"),
    ]
    if fitting is not None:
        limits.append((max(1, fitting), "there is memory for no more"))
    slots, reason = min(limits)
    if config.learner.name == "packed" and config.learner.pack_size is not None:
        slots, reason = config.learner.pack_size, "as learner.pack_size says"
    return PackPlan(
        slots=slots,
        reason=reason,
        fitting=fitting,
        per_slot=SlotMemory(
            engine_adapters=(four.adapters - two.adapters) // 2,
            trainer=(four.trainer - two.trainer) // 2,
            activations=(_activations(four) - _activations(two)) // 2,
        ),
    )


def study_footprint(
    config: StudyFile, shape: ModelShape, device: Device | None, *, max_lora_rank: int | None = None
) -> Footprint:
    """What a worker of the study holds.

    Args:
        config: The study.
        shape: Of its base model.
        device: The GPU that it runs on; None for the CPU, unless the study needs a GPU.
        max_lora_rank: The ceiling, as the engine gets it; default: the study's own.

    Raises:
        ModelConfigError: where a target module is not in the model.
    """
    placed = place(config, device)
    workload = Workload(
        model=config.model.model_copy(update={"target_modules": config.target_modules}),
        trained_modules=trained_modules(config, shape),
        budget=config.budget,
        micro_batch_size=config.learner.micro_batch_size,
        # TRL 1.13's DPOTrainer computes the prompt's logits too.
        completion_tokens=config.model.max_seq_length if config.learner.name == "dpo" else completion_tokens(config),
        held_out_prompts=config.task.held_out_prompts,
        slots=config.learner.slots,
        packed=config.learner.name == "packed",
        on_gpu=placed.on_gpu,
        entropy_bonus=isinstance(config.learner, GrpoSettings) and config.learner.entropy_coef > 0,
    )
    ceiling = max_lora_rank or config.engine_max_lora_rank
    return footprint(shape, workload, engine=placed.engine, max_lora_rank=ceiling, r=config.search_space().r[-1])


def _activations(held: Footprint) -> int:
    return held.training_activations + held.engine_activations


def completion_tokens(config: StudyFile) -> int:
    """The longest completion that is sampled, in tokens."""
    stated = getattr(config.task, "max_completion_tokens", None)
    if stated is not None:
        return int(stated)
    from objectives.tasks.string_ops import StringOps

    return StringOps(symbols=1, seed=0).max_completion_tokens


def with_slots(config: StudyFile, slots: int) -> StudyFile:
    """The study with so many trials in a pack."""
    return config.model_copy(update={"learner": config.learner.model_copy(update={"pack_size": slots})})


def sized_pack(config: StudyFile, device: Device | None) -> StudyFile:
    """The study as it is run: a pack whose size was left open has one.

    Args:
        config: The study.
        device: The GPU of each worker; None for a processor.
    """
    if config.learner.name != "packed" or config.learner.pack_size is not None:
        return config
    try:
        return with_slots(config, plan_pack(config, plan_model(config.model.name).shape, device).slots)
    except (StudyFileError, ModelConfigError):
        # A model whose memory cannot be planned for, or whose config.json is still at the hub.
        return with_slots(config, config.learner.slots)


def _fitting(config: StudyFile, shape: ModelShape, device: Device | None) -> int | None:
    """The most slots that there is memory for; 0 for not even one."""
    memory = available_memory() if device is None else device.memory_bytes
    if memory is not None and device is None and config.run.workers != "auto":
        memory //= config.run.workers  # they share this machine's
    if memory is None or (device is None and config.model.device == "gpu"):
        return None

    def fits(slots: int) -> bool:
        held = study_footprint(with_slots(config, slots), shape, device)
        return host_bytes(held) <= memory if device is None else fit(held, config.model, memory_bytes=memory).fits

    return max((slots for slots in range(1, MOST_SLOTS + 1) if fits(slots)), default=0)
