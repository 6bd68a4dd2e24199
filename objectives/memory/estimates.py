"""Memory that depends on libraries and on the run, as estimates. Each says its formula."""

from __future__ import annotations

from objectives.memory.shape import ModelShape
from objectives.settings.number_formats import BYTES_PER_ELEMENT, DType

CONTEXT_BYTES = 2**29
"""What a process holds on a GPU before its first tensor: the CUDA context and loaded kernels, half a GiB or so."""
HOST_BYTES = 3 * 2**30
"""What a worker without a GPU takes beside models and adapters: 2 GiB with torch, vLLM and Unsloth imported, as
measured, and vLLM's cache of 1 GiB."""
QUANTISATION_BLOCK, SCALE_BLOCK = 64, 256
"""Weights that share a scale in bitsandbytes' 4-bit formats, and scales that share one of their own."""


def four_bit_weight_bytes(shape: ModelShape, dtype: DType) -> int:
    """Base weights as bitsandbytes holds them in 4 bits (QLoRA, Dettmers et al., 2023).

    Linear modules: half a byte a weight, and a scale for every 64 weights, quantised too: 1 byte and 4/256. Embeddings,
    logits and norms stay in `dtype`. Repositories that leave some layers unquantised hold more.

    Args:
        shape: Of the base model.
        dtype: The number format of what stays unquantised.
    """
    scale = 1 + 4 / SCALE_BLOCK
    linears = shape.linear_parameters * (0.5 + scale / QUANTISATION_BLOCK)
    return round(linears) + shape.other_parameters() * BYTES_PER_ELEMENT[dtype]


def kv_cache_bytes(shape: ModelShape, dtype: DType, *, tokens: int) -> int:
    """Keys and values: 2 x layers x key heads x head size x bytes of an element, a token.

    Layers with a sliding window (some of Mistral and Gemma) keep less, once sequences outgrow the window.
    """
    return 2 * shape.layers * shape.kv_width * BYTES_PER_ELEMENT[dtype] * tokens


def layer_activation_bytes(
    shape: ModelShape, dtype: DType, *, tokens: int, packed: bool = False, autocast: bool = False
) -> int:
    """What one decoder layer keeps for the backward pass of its adapters.

    Elements a token, for hidden size d, query width q, key width k, feed-forward width f and the widths of all norms
    together n: 2d + 2q + 2k + 4f + n in float32, and n more in 16 bits, since norms compute in float32. Adapters that
    do as well, as PEFT's, keep float32 copies of what they read: 10d + 4q + 2k + 5f + 2n. Counted with saved-tensor
    hooks on Llama, Qwen3 and Gemma models under PEFT 0.21 and Transformers 5.17; Unsloth's kernels keep less.

    Args:
        shape: Of the base model.
        dtype: The base's number format.
        tokens: In the pass.
        packed: Whether a pack trains them. Transformers then repeats keys and values for every query head, as it does
            before attention under a mask: 2q - 2k elements more.
        autocast: Whether adapters compute in the base's number format.
    """
    d, q, k, f = shape.hidden, shape.query_width, shape.kv_width, shape.feed_forward
    n = shape.family.norms * d + (q + k if shape.family.head_norms else 0)
    elements = 2 * d + 2 * q + 2 * k + 4 * f + n
    if dtype != "float32":
        elements += n + (0 if autocast else 8 * d + 2 * q + f)
    if packed:
        elements += 2 * (q - k)
    return elements * BYTES_PER_ELEMENT[dtype] * tokens


def training_activation_bytes(
    shape: ModelShape,
    dtype: DType,
    *,
    logits_dtype: DType,
    sequences: int,
    sequence_tokens: int,
    completion_tokens: int,
    checkpointing: str,
    logits_at_once: int | None = None,
    packed: bool = False,
    autocast: bool = False,
    adapter_width: int = 0,
    logit_copies: int = 4,
) -> int:
    """The peak of one forward and backward pass.

    Layers x `layer_activation_bytes` without checkpointing; with it, one layer's and the input of every layer, which
    Unsloth moves to the host. Plus logits over the completions, `logit_copies` x tokens x vocabulary elements: as
    computed, divided by the temperature, and the gradients of both. A pack is planned for more closely. Its layers also
    keep what lies between A and B. And logits are gone by the time that the last layer is recomputed and its backward
    pass begins, which holds 2f + d elements a token; 3f + d where adapters compute in float32 beside 16 bits.

    Args:
        shape: Of the base model.
        dtype: The base's number format.
        logits_dtype: The number format that log-probabilities are computed in.
        sequences: Completions a pass.
        sequence_tokens: Tokens of prompt and completion together.
        completion_tokens: Tokens of a sequence that have logits.
        checkpointing: "off", "standard" or "unsloth".
        logits_at_once: Tokens x vocabulary, at most; None for those of all completions. What the output layer reads,
            twice, and the gradients of both, are then there for all.
        packed: See `layer_activation_bytes`.
        autocast: See `layer_activation_bytes`.
        adapter_width: Ranks of a layer's adapters, added up; for a pack.
        logit_copies: A bonus for entropy keeps more than 4: probabilities, and in TRL 1.13 their logarithms.
    """
    tokens, size = sequences * sequence_tokens, BYTES_PER_ELEMENT[dtype]
    layer = layer_activation_bytes(shape, dtype, tokens=tokens, packed=packed, autocast=autocast)
    inputs = shape.layers * tokens * shape.hidden * size
    # TRL's GRPO and the packed learner leave the prompt's logits out; TRL's DPO does not.
    completions = sequences * min(completion_tokens, sequence_tokens)
    held = completions * shape.vocab
    logits = logit_copies * min(held, logits_at_once or held) * BYTES_PER_ELEMENT[logits_dtype]
    if logits_at_once is not None and held > logits_at_once:
        logits += 4 * completions * shape.hidden * size
    if packed:
        layer += adapter_width * tokens * (size if autocast else BYTES_PER_ELEMENT["float32"])
        feed_forwards = 2 if autocast or dtype == "float32" else 3
        backward = (feed_forwards * shape.feed_forward + shape.hidden) * tokens * size
        if checkpointing == "off":
            return shape.layers * layer + max(logits, backward)
        return inputs + max(logits, layer + backward)
    body = {"off": shape.layers * layer, "standard": layer + inputs}.get(checkpointing, layer)
    return body + logits


def pair_scoring_bytes(shape: ModelShape, dtype: DType, *, pairs: int, sequence_tokens: int, at_once: int) -> int:
    """The logits of held-out pairs that are ranked together: as computed, in float32, and their log-probabilities.

    Args:
        shape: Of the base model.
        dtype: The base's number format.
        pairs: That are ranked together, at most.
        sequence_tokens: Tokens of prompt and completion together.
        at_once: Tokens x vocabulary, at most, unless one sequence has more.
    """
    longest = sequence_tokens * shape.vocab
    return min(pairs * longest, max(at_once, longest)) * (8 if dtype == "float32" else 8 + BYTES_PER_ELEMENT[dtype])


def engine_activation_bytes(shape: ModelShape, dtype: DType, *, batched_tokens: int, sequences: int) -> int:
    """What a vLLM engine needs beside weights, adapters and cache when its batch is fullest.

    Tokens x (2d + q + 2k + 3f) elements for one layer at a time, and float32 logits with their probabilities,
    8 x sequences x vocabulary bytes. CUDA graphs come on top: 0.15 to 1 GiB.
    """
    width = 2 * shape.hidden + shape.query_width + 2 * shape.kv_width + 3 * shape.feed_forward
    return batched_tokens * width * BYTES_PER_ELEMENT[dtype] + 8 * sequences * shape.vocab
