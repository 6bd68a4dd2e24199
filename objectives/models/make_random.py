"""Makes a random Llama with a byte-level tokenizer and a chat template: it says nonsense, fluently.

Tests and benchmarks use it where a real model would have to be downloaded:

    python -m objectives.models.make_random FOLDER [--hidden 2048 --layers 16 | --like CONFIG_JSON]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PAD, EOS = "<pad>", "<|end|>"
SPECIAL = (PAD, EOS, "<|system|>", "<|user|>", "<|assistant|>")
HEAD_DIM = 32
"""vLLM 0.32 has no CPU attention for smaller heads."""


def make_tokenizer(size: int = 0) -> PreTrainedTokenizerFast:
    """A token for each byte, and one for each special string.

    Args:
        size: Tokens in all, at least: those beyond are read by nobody, and written by a model that has so many.
    """
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += (f"unused{i}" for i in range(len(tokens), size))
    vocabulary = {token: i for i, token in enumerate(tokens)}
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


def make_model_like(folder: Path, config_file: Path) -> Path:
    """Saves a random Llama of another's shape, in that one's number format, and a tokenizer of as many tokens.

    Args:
        folder: Made where it is not there.
        config_file: A Llama's config.json.
    """
    config = LlamaConfig.from_json_file(str(config_file))
    tokenizer = make_tokenizer(config.vocab_size)
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    config.bos_token_id = None
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=config.dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    """The command line: a folder, and the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--like", type=Path, help="a Llama's config.json: its shape instead of the sizes above")
    arguments = parser.parse_args()
    if arguments.like is not None:
        make_model_like(arguments.folder, arguments.like)
        return
    make_random_model(arguments.folder, hidden=arguments.hidden, layers=arguments.layers)


if __name__ == "__main__":
    main()
