"""Memory of adapters and base weights that follows from a model's shape to the byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from objectives.errors import ModelConfigError
from objectives.lora import TARGET_MODULES
from objectives.memory.shape import ModelShape
from objectives.settings.number_formats import BYTES_PER_ELEMENT, DType

EMBEDDINGS, LOGITS = "embed_tokens", "lm_head"
MAX_ADAPTED_LOGITS = 258048
"""The largest vocabulary whose logits vLLM 0.32 adapts."""
MERGED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Linear modules that vLLM runs as one: where one of them is adapted, memory is reserved for all."""
VOCAB_PADDING = 64
"""vLLM 0.32 rounds the rows of its base embeddings up to a multiple of this. Adapters are not padded."""
TRAINED_BYTES = 4
"""PEFT keeps adapters in float32 whatever the base is in, and AdamW its moments in the format of the parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleMemory:
    """What a vLLM engine reserves for the adapters of one kind of module, summed over layers."""

    name: str
    """As in the model; `lm_head` stands for the logits."""
    count: int
    """How many of these modules there are: the layers, or 1."""
    a_bytes: int
    """Of the A stacks."""
    b_bytes: int
    """Of the B stacks."""

    @property
    def bytes(self) -> int:
        """Of both."""
        return self.a_bytes + self.b_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMemory:
    """What a vLLM engine reserves for adapters when it loads, whatever rank is served later."""

    max_lora_rank: int
    max_loras: int
    modules: tuple[ModuleMemory, ...]

    @property
    def bytes(self) -> int:
        """Of all modules."""
        return sum(module.bytes for module in self.modules)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerMemory:
    """What training one adapter holds besides base weights and activations, in bytes."""

    r: int
    parameters: int
    adapter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int

    @property
    def bytes(self) -> int:
        """Of adapter, gradients and moments."""
        return self.adapter_bytes + self.gradient_bytes + self.optimizer_bytes


def engine_memory(
    shape: ModelShape,
    *,
    max_lora_rank: int,
    max_loras: int = 1,
    dtype: DType,
    target_modules: Sequence[str] | None = TARGET_MODULES,
) -> EngineMemory:
    """Bytes of the tensors that a vLLM engine allocates for adapters, on one device.

    Each adapted module gets, in the engine's number format, max_loras x (R x inputs + outputs x R) elements: an A and a
    B stack. Merged modules (q, k, v; gate, up) have stacks of their own each, but are adapted together. Embeddings get
    max_loras x (vocab x R + hidden x R), logits max_loras x (R x hidden + vocab x R), tied or not
    (vLLM 0.32, `vllm/lora/layers`).

    Args:
        shape: Of the base model.
        max_lora_rank: R, the ceiling, as the engine gets it.
        max_loras: Adapters that may take part in one batch.
        dtype: The engine's number format.
        target_modules: What the engine is restricted to. None: every linear module, and in the families whose class in
            vLLM says so (Llama, Qwen3) embeddings and logits too. This is how Unsloth starts its engine on a GPU; ours
            is restricted to the study's target modules.

    Raises:
        ModelConfigError: where a target module is not in the model, or vLLM refuses a vocabulary of this size.
    """
    sizes = {linear.name: (shape.layers, linear.inputs, linear.outputs) for linear in shape.linears}
    sizes |= {EMBEDDINGS: (1, shape.vocab, shape.hidden), LOGITS: (1, shape.hidden, shape.vocab)}
    names = adapted_modules(shape, target_modules)
    if LOGITS in names and shape.vocab > MAX_ADAPTED_LOGITS:
        raise ModelConfigError(f"vocab_size={shape.vocab}: vLLM adapts logits of at most {MAX_ADAPTED_LOGITS} tokens")
    modules = []
    for name in names:
        count, inputs, outputs = sizes[name]
        row = count * max_loras * max_lora_rank * BYTES_PER_ELEMENT[dtype]
        modules.append(ModuleMemory(name=name, count=count, a_bytes=row * inputs, b_bytes=row * outputs))
    return EngineMemory(max_lora_rank=max_lora_rank, max_loras=max_loras, modules=tuple(modules))


def adapted_modules(shape: ModelShape, target_modules: Sequence[str] | None) -> tuple[str, ...]:
    """The modules that a vLLM engine adapts under a restriction, in the order of the model.

    Raises:
        ModelConfigError: where a target module is not in the model.
    """
    linears = tuple(linear.name for linear in shape.linears)
    if target_modules is None:
        return (EMBEDDINGS, *linears, LOGITS) if shape.family.adapts_embeddings else linears
    check_targets(shape, target_modules)
    wanted = set(target_modules)
    # One of q, k and v adapted makes vLLM reserve for all three, so asking for fewer of them saves nothing.
    for merged in MERGED:
        if wanted.intersection(merged):
            wanted.update(merged)
    return tuple(name for name in (EMBEDDINGS, *linears, LOGITS) if name in wanted)


def trainer_memory(shape: ModelShape, r: int, target_modules: Sequence[str] = TARGET_MODULES) -> TrainerMemory:
    """What a trainer holds for one adapter of rank r: weights, gradients and the two moments of AdamW, all float32.

    A module's adapter has r x (inputs + outputs) parameters (Hu et al., 2021). The step counts that AdamW keeps on the
    host, 4 bytes a tensor, are left out.

    Raises:
        ModelConfigError: where a target module is not in the model.
    """
    check_targets(shape, target_modules)
    widths = {linear.name: shape.layers * (linear.inputs + linear.outputs) for linear in shape.linears}
    widths |= {EMBEDDINGS: shape.vocab + shape.hidden, LOGITS: shape.vocab + shape.hidden}
    parameters = r * sum(widths[name] for name in set(target_modules))
    size = parameters * TRAINED_BYTES
    return TrainerMemory(r=r, parameters=parameters, adapter_bytes=size, gradient_bytes=size, optimizer_bytes=2 * size)


def textbook_bytes(shape: ModelShape, r: int, dtype: DType) -> int:
    """The rule of thumb 2 x r x hidden x layers x size of an element: one square module a layer, one adapter."""
    return 2 * r * shape.hidden * shape.layers * BYTES_PER_ELEMENT[dtype]


def base_weight_bytes(shape: ModelShape, dtype: DType, *, vocab_multiple: int = 1) -> int:
    """Base weights in 16 or 32 bits, each matrix once.

    Args:
        shape: Of the base model.
        dtype: The number format they are held in.
        vocab_multiple: 1 for the trainer; `VOCAB_PADDING` for a vLLM engine of its own.
    """
    elements = shape.linear_parameters + shape.other_parameters(vocab_multiple=vocab_multiple)
    return elements * BYTES_PER_ELEMENT[dtype]


def check_targets(shape: ModelShape, target_modules: Sequence[str]) -> None:
    """Checks that a model has these modules.

    Raises:
        ModelConfigError: naming the first that it lacks.
    """
    known = [*(linear.name for linear in shape.linears), EMBEDDINGS, LOGITS]
    for name in target_modules:
        if name not in known:
            raise ModelConfigError(
                f"target module {name!r} is not in a {shape.model_type} model; allowed: {', '.join(known)}"
            )
