"""Makes a random Llama with a byte-level tokenizer and a chat template: it says nonsense, fluently.

Tests and benchmarks use it where a real model would have to be downloaded:

    python -m objectives.models.make_random FOLDER [--hidden 2048 --layers 16]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PAD, EOS = "<pad>", "<|end|>"
SPECIAL = (PAD, EOS, "<|system|>", "<|user|>", "<|assistant|>")
HEAD_DIM = 32
"""vLLM 0.32 has no CPU attention for smaller heads."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte, and one for each special string."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD, padding_side="left")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_random_model(folder: Path, *, hidden: int = 64, layers: int = 2) -> Path:
    """Saves model and tokenizer into a folder.

    Args:
        folder: Made where it is not there.
        hidden: Width; a multiple of 64.
        layers: Decoder layers.
    """
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=264,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // HEAD_DIM,
        num_key_value_heads=hidden // HEAD_DIM // 2,
        head_dim=HEAD_DIM,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    """The command line: a folder, and the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    arguments = parser.parse_args()
    make_random_model(arguments.folder, hidden=arguments.hidden, layers=arguments.layers)


if __name__ == "__main__":
    main()
