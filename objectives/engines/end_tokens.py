"""Which tokens end a completion."""

from __future__ import annotations

from typing import Any


def end_tokens(tokenizer: Any, model: Any) -> frozenset[int]:
    """Every token that ends a completion: the tokenizer's own, and those of the model's generation config.

    Chat models often name several, as Llama 3 does, and engines stop at each of them.
    """
    stated = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    several = stated if isinstance(stated, list | tuple) else [stated]
    return frozenset(int(token) for token in (tokenizer.eos_token_id, *several) if token is not None)
