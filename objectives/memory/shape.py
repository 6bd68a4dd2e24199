"""The shape of a dense decoder, read from its config.json alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.errors import ModelConfigError, UnknownModelError
from objectives.settings.number_formats import BYTES_PER_ELEMENT, DType


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What the models of one `model_type` share, and what their config.json may leave unsaid.

    Defaults are those of the configuration classes of Transformers 5.17, biases and norms those of its models.
    """

    adapts_embeddings: bool
    """Whether an unrestricted vLLM engine adapts embeddings and logits too: whether the model's class there names
    `embedding_modules`, as of vLLM 0.32."""
    tied: bool = False
    kv_heads: int | None = None
    """None: as many as there are query heads."""
    head_dim: int | None = None
    """None: hidden size / query heads."""
    norms: int = 2
    """Norms over the hidden size, a layer."""
    head_norms: int = 0
    """Norms over one head, a layer."""
    biased: tuple[str, ...] = ()
    """Linear modules that always have a bias."""
    biased_if: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Keys of config.json that, where true, give a bias to these linear modules."""
    caps_logits: bool = False
    """Whether something is done to logits after the output layer, unless config.json says otherwise."""


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
ATTENTION_BIAS = ("attention_bias", ATTENTION)

FAMILIES = {
    "llama": Family(adapts_embeddings=True, biased_if=(ATTENTION_BIAS, ("mlp_bias", FEED_FORWARD))),
    "qwen2": Family(adapts_embeddings=False, kv_heads=32, biased=("q_proj", "k_proj", "v_proj")),
    "qwen3": Family(adapts_embeddings=True, kv_heads=32, head_dim=128, head_norms=2, biased_if=(ATTENTION_BIAS,)),
    "mistral": Family(adapts_embeddings=False, kv_heads=8),
    "gemma2": Family(
        adapts_embeddings=False,
        tied=True,
        kv_heads=4,
        head_dim=256,
        norms=4,
        biased_if=(ATTENTION_BIAS,),
        caps_logits=True,
    ),
    "gemma3_text": Family(
        adapts_embeddings=False, tied=True, kv_heads=4, head_dim=256, norms=4, head_norms=2, biased_if=(ATTENTION_BIAS,)
    ),
}
"""The families that memory can be planned for, by the `model_type` of their config.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """One linear module of a decoder layer."""

    name: str
    inputs: int
    outputs: int
    bias: bool

    @property
    def parameters(self) -> int:
        """Its weights, and its biases if it has any."""
        return self.inputs * self.outputs + (self.outputs if self.bias else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A dense decoder's sizes. All its layers are alike."""

    model_type: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocab: int
    """Rows of the embedding. Engines pad their base weights beyond it, not their adapters."""
    tied: bool
    """Whether input embeddings and logits share one matrix."""
    dtype: DType
    """The number format of the weights as they were published."""
    linears: tuple[Linear, ...]
    """The linear modules of one layer."""

    @property
    def family(self) -> Family:
        """What models of this type share."""
        return FAMILIES[self.model_type]

    @property
    def query_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key heads together, which is that of all value heads."""
        return self.kv_heads * self.head_dim

    @property
    def linear_parameters(self) -> int:
        """Parameters of all linear modules in all layers: what 4-bit loading quantises, and biases."""
        return self.layers * sum(linear.parameters for linear in self.linears)

    def other_parameters(self, *, vocab_multiple: int = 1) -> int:
        """Parameters of embeddings, logits and norms.

        Args:
            vocab_multiple: The vocabulary is rounded up to a multiple of this, as vLLM does to one of 64.
        """
        vocab = -(-self.vocab // vocab_multiple) * vocab_multiple
        embeddings = vocab * self.hidden * (1 if self.tied else 2)
        norms = self.family.norms * self.hidden + self.family.head_norms * self.head_dim
        return embeddings + self.layers * norms + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters of the model as it was published; a tied matrix counts once."""
        return self.linear_parameters + self.other_parameters()


def read_config(path: Path) -> dict[str, Any]:
    """The content of a config.json.

    Raises:
        ModelConfigError: where it cannot be read, or is no JSON object.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelConfigError(f"{path}: not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelConfigError(f"{path}: holds a {type(config).__name__}; allowed: a JSON object")
    return config


def read_shape(path: Path) -> ModelShape:
    """The shape that a config.json describes.

    Raises:
        ModelConfigError: where it cannot be read, is no JSON object, lacks a size, or is of a type not planned for.
    """
    config = read_config(path)
    try:
        return make_shape(config)
    except ModelConfigError as error:
        raise type(error)(f"{path}: {error}") from error


def make_shape(config: dict[str, Any]) -> ModelShape:
    """The shape that the content of a config.json describes.

    Raises:
        ModelConfigError: where a size is missing or no whole number, or the type is not planned for.
    """
    model_type = config.get("model_type")
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if not isinstance(model_type, str) or family is None:
        kind = UnknownModelError if isinstance(model_type, str) else ModelConfigError
        raise kind(f"model_type={model_type!r} is not planned for; allowed: {', '.join(FAMILIES)}")
    hidden, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    kv_heads = _size(config, "num_key_value_heads", default=family.kv_heads or heads)
    head_dim = _size(config, "head_dim", default=family.head_dim or hidden // heads)
    if heads % kv_heads:
        raise ModelConfigError(f"num_attention_heads={heads} is no multiple of num_key_value_heads={kv_heads}")
    feed_forward = _size(config, "intermediate_size")
    query, kv = heads * head_dim, kv_heads * head_dim
    sizes = {
        "q_proj": (hidden, query), "k_proj": (hidden, kv), "v_proj": (hidden, kv), "o_proj": (query, hidden),
        "gate_proj": (hidden, feed_forward), "up_proj": (hidden, feed_forward), "down_proj": (feed_forward, hidden),
    }  # fmt: skip
    biased = {*family.biased, *(name for key, names in family.biased_if if config.get(key) for name in names)}
    return ModelShape(
        model_type=model_type,
        layers=_size(config, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        feed_forward=feed_forward,
        vocab=_size(config, "vocab_size"),
        tied=bool(config.get("tie_word_embeddings", family.tied)),
        dtype=_dtype(config),
        linears=tuple(
            Linear(name=name, inputs=inputs, outputs=outputs, bias=name in biased)
            for name, (inputs, outputs) in sizes.items()
        ),
    )


def _size(config: dict[str, Any], key: str, *, default: int | None = None) -> int:
    value = config.get(key)
    if value is None:
        value = default
    if value is None:
        raise ModelConfigError(f"{key} is missing; it must be given")
    # JSON's `true` would pass for 1.
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelConfigError(f"{key}={value!r}; allowed: whole numbers from 1")
    return value


def _dtype(config: dict[str, Any]) -> DType:
    """`dtype` as Transformers 5 writes it, or `torch_dtype` as before; bfloat16, as engines load it, for neither."""
    stated = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    name = str(stated).removeprefix("torch.")
    for dtype in BYTES_PER_ELEMENT:
        if name == dtype:
            return dtype
    raise ModelConfigError(f"dtype={stated!r}; allowed: {', '.join(BYTES_PER_ELEMENT)}")
