"""What one worker holds on one device, and whether a device has room for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from objectives.memory.estimates import (
    CONTEXT_BYTES,
    HOST_BYTES,
    engine_activation_bytes,
    four_bit_weight_bytes,
    kv_cache_bytes,
    pair_scoring_bytes,
    training_activation_bytes,
)
from objectives.memory.exact import VOCAB_PADDING, base_weight_bytes, engine_memory, trainer_memory
from objectives.memory.shape import ModelShape
from objectives.settings.pack import LOGITS_AT_ONCE, PAIRS_AT_ONCE, pack_halves
from objectives.settings.sections import BudgetSettings, ModelSettings

EngineKind = Literal["unsloth", "vllm", "transformers", "none"]
"""`none`: preference pairs that are ranked by their likelihoods are not sampled."""
COPIES: dict[EngineKind, int] = {"unsloth": 0, "vllm": 1, "transformers": 2, "none": 1}
"""Copies of the base outside the engine's share: Transformers' engine has one of its own, and no share."""


def reserves(engine: EngineKind) -> bool:
    """Whether it is a vLLM, which sets memory aside when it loads."""
    return engine in ("unsloth", "vllm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a study asks of a worker's memory."""

    model: ModelSettings
    budget: BudgetSettings
    micro_batch_size: int | None
    completion_tokens: int
    """Tokens of a sequence that have logits in training."""
    held_out_prompts: int
    slots: int = 1
    """Trials at once."""
    packed: bool = False
    """Whether a pack trains them: each in a slot that is padded to the ceiling, all of a half in one pass."""
    on_gpu: bool = False
    entropy_bonus: bool = False
    trained_modules: tuple[str, ...] | None = None
    """What a trainer wraps for one trial; None for all target modules, for which the engine has room."""

    @property
    def sequences(self) -> int:
        """Sequences that the engine runs at once, at most."""
        return self.budget.sequences(slots=self.slots, held_out_prompts=self.held_out_prompts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes on one device. Adapters and what trains them are exact, unquantised weights too; the rest are estimates."""

    engine: EngineKind
    slots: int
    """Trials at once."""
    weights: int
    """The frozen base, once."""
    weights_shared: bool
    """Whether trainer and engine share one copy of it."""
    adapters: int
    """What the engine reserves for adapters."""
    engine_activations: int
    sequence_cache: int
    """Keys and values of one sequence of full length."""
    trainer: int
    """The adapters in training, their gradients and moments; on a CPU, what of the base they have to put back."""
    training_activations: int
    """Or what ranking held-out pairs takes, where that is more."""

    @property
    def in_engine(self) -> int:
        """What the engine holds before its cache."""
        if not reserves(self.engine):
            return 0
        return self.weights + self.adapters + self.engine_activations

    @property
    def in_trainer(self) -> int:
        """What training holds outside the engine's share."""
        return COPIES[self.engine] * self.weights + self.trainer + self.training_activations + CONTEXT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether a device has room. An estimate."""

    fits: bool
    reason: str
    """What lacks room, and which setting would give it; empty where it fits."""
    engine_room: int
    """Bytes of the engine's share left for its cache; negative where the share is too small."""
    trainer_room: int
    """Bytes left beside the engine's share once training is at its peak; negative where too few."""
    sequences: int
    """Sequences of full length that the cache holds at once; 0 where nothing is sampled."""


def engine_kind(model: ModelSettings, *, on_gpu: bool, samples: bool = True) -> EngineKind:
    """Which engine a worker starts. On a GPU, Unsloth brings a vLLM of its own, not restricted to target modules."""
    if not samples:
        return "none"
    if model.engine == "transformers":
        return "transformers"
    return "unsloth" if model.policy == "unsloth" and on_gpu else "vllm"


def footprint(shape: ModelShape, workload: Workload, *, engine: EngineKind, max_lora_rank: int, r: int) -> Footprint:
    """What a worker holds at its peak.

    Args:
        shape: Of the base model.
        workload: What the study asks for.
        engine: The kind that the worker starts.
        max_lora_rank: The ceiling, as the engine gets it.
        r: The largest rank that is trained.

    Raises:
        ModelConfigError: where a target module is not in the model.
    """
    model = workload.model
    if model.load_in_4bit:
        weights = four_bit_weight_bytes(shape, model.number_format)
    else:
        padding = VOCAB_PADDING if engine == "vllm" else 1
        weights = base_weight_bytes(shape, model.number_format, vocab_multiple=padding)
    adapters = 0
    if reserves(engine):
        targets = None if engine == "unsloth" else model.target_modules
        adapters = engine_memory(
            shape,
            max_lora_rank=max_lora_rank,
            max_loras=workload.slots,
            dtype=model.number_format,
            target_modules=targets,
        ).bytes
    # A slot of a pack is padded to the ceiling, whatever rank trains in it.
    trainer, training_activations = _training(shape, workload, r=max_lora_rank if workload.packed else r)
    if model.changes_base and not workload.on_gpu:
        trainer += 4 * shape.linear_parameters  # the copies that it puts back, which lie on the host
    if engine == "none":
        scoring = pair_scoring_bytes(
            shape,
            model.number_format,
            pairs=min(workload.held_out_prompts, PAIRS_AT_ONCE),
            sequence_tokens=model.max_seq_length,
            at_once=LOGITS_AT_ONCE,
        )
        training_activations = max(training_activations, scoring)
    return Footprint(
        engine=engine,
        slots=workload.slots,
        weights=weights,
        weights_shared=engine == "unsloth",
        adapters=adapters,
        engine_activations=engine_activation_bytes(
            shape,
            model.number_format,
            batched_tokens=model.batched_tokens,
            sequences=workload.sequences,
        ),
        sequence_cache=kv_cache_bytes(shape, model.number_format, tokens=model.max_seq_length),
        trainer=trainer,
        training_activations=training_activations,
    )


def _training(shape: ModelShape, workload: Workload, *, r: int) -> tuple[int, int]:
    """Bytes of what trains the adapters of all slots, each of rank r, and of activations at their peak."""
    model, checkpointing = workload.model, workload.model.gradient_checkpointing
    if workload.packed and checkpointing == "unsloth":
        checkpointing = "standard"  # a pack runs on Transformers' own
    autocast = workload.packed and workload.on_gpu and model.number_format != "float32"
    slot = trainer_memory(shape, r, workload.trained_modules or model.target_modules)
    # One half trains while the other rolls out: the larger half's activations are all that is there at once.
    at_once = max(map(len, pack_halves(workload.slots, on_gpu=workload.on_gpu)))
    activations = training_activation_bytes(
        shape,
        model.number_format,
        # 16 bytes a logit in a pack, as measured, whatever the base is in.
        logits_dtype="float32" if workload.packed else model.number_format,
        sequences=at_once * (workload.micro_batch_size or workload.budget.completions_per_step),
        sequence_tokens=model.max_seq_length,
        completion_tokens=workload.completion_tokens,
        checkpointing=checkpointing,
        packed=workload.packed,
        autocast=autocast,
        adapter_width=r * len(model.target_modules),
        logit_copies=4 + workload.entropy_bonus * (1 if workload.packed else 2),
        logits_at_once=LOGITS_AT_ONCE if workload.packed and not shape.family.caps_logits else None,
    )
    # Backward passes leave gradients on the modules, from where a pack collects them into its own.
    collected = workload.slots * slot.gradient_bytes if workload.packed else 0
    # Adapters in 16 bits, by autocast, for every layer; under checkpointing they last for their layer's pass.
    cast = collected // 2 if autocast and checkpointing == "off" else 0
    return workload.slots * slot.bytes, activations + collected + cast


def host_bytes(held: Footprint) -> int:
    """What a worker without a GPU takes of the machine's memory. An estimate."""
    return held.in_engine + held.in_trainer + HOST_BYTES


def fit(held: Footprint, model: ModelSettings, *, memory_bytes: int) -> Fit:
    """Whether a device of so much memory has room for a worker."""
    # Only vLLM sets a share of the device apart; the cache of `generate` grows in what training leaves.
    share = int(memory_bytes * model.gpu_memory_utilization) if reserves(held.engine) else 0
    trainer_room = memory_bytes - share - held.in_trainer
    if held.engine == "none":
        engine_room, sequences = 0, 0
    elif not reserves(held.engine):
        engine_room, sequences = 0, max(0, trainer_room // held.sequence_cache)
    else:
        engine_room = share - held.in_engine
        sequences = max(0, engine_room // held.sequence_cache)
    lacks = []
    if trainer_room < 0:
        share_hint = "" if not reserves(held.engine) else " or model.gpu_memory_utilization"
        slots_hint = ", learner.pack_size" if held.slots > 1 else ""
        lacks.append(f"training lacks room: lower learner.micro_batch_size{slots_hint}{share_hint}")
    if engine_room < 0:
        lacks.append("the engine's share is too small for weights and adapters: raise model.gpu_memory_utilization")
    elif not sequences and held.engine != "none":
        lacks.append("the engine has no room for one sequence: lower model.max_seq_length")
    return Fit(
        fits=not lacks, reason="; ".join(lacks), engine_room=engine_room, trainer_room=trainer_room, sequences=sequences
    )
