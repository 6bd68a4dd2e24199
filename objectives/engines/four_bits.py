"""A frozen base in 4 bits: one format for whoever trains on it and whoever samples from it."""

from __future__ import annotations

import torch
from transformers import BitsAndBytesConfig

from objectives.settings.sections import ModelSettings


def four_bits(settings: ModelSettings) -> BitsAndBytesConfig | None:
    """How Transformers is to load the base in 4 bits; None where it is to be left as it is.

    NF4 with quantised scales (QLoRA, Dettmers et al., 2023), as Unsloth and vLLM load it. The defaults of bitsandbytes,
    FP4 that computes in float32, make another base of the same weights.
    """
    if not settings.load_in_4bit:
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, settings.number_format),
    )
