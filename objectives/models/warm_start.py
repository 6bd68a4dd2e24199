"""What the scripts that make the shipped policies share: a character tokenizer, a small Llama, supervised training."""

from __future__ import annotations

import string
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from objectives.tasks.protocol import Row
from objectives.tasks.string_ops import exact_match

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
CHARACTERS = string.ascii_letters + string.digits + " :>=+-?"
CONTEXT_LENGTH = 128
HEAD_DIM = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large a policy is: widths, layers, and the spread of its first weights."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    initializer_range: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a policy is warmed up: AdamW, a rate that rises over the first steps and then falls to zero."""

    steps: int
    warmup_steps: int
    batch_size: int
    learning_rate: float
    dtype: torch.dtype = torch.float32
    """What matrices are multiplied in; weights stay in float32."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer with one token per character, which adds no special tokens by itself."""
    vocabulary = {token: i for i, token in enumerate([PAD, EOS, UNK, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    # Without a decoder, decoded characters have spaces between them.
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",
        model_max_length=CONTEXT_LENGTH,
        # Llama takes no token types, and `generate` refuses arguments that the model does not take.
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast, shape: Shape, *, seed: int) -> LlamaForCausalLM:
    """Returns the untrained policy.

    Args:
        tokenizer: Sets the vocabulary and the special tokens.
        shape: The policy's size.
        seed: Sets the initial weights.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=HEAD_DIM,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        initializer_range=shape.initializer_range,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    # Nothing but the special tokens: sampling settings saved here would be every user's silent defaults.
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Callable[[int], list[tuple[str, str]]],
    training: Training,
) -> None:
    """Trains the model in place on prompts and answers, printing a line every 200 steps.

    Args:
        model: The untrained policy.
        tokenizer: The policy's own.
        pairs: Gives a step's batch, by the step's number from 1 on: prompts and answers, each kind of one length.
        training: How long and how fast.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, betas=(0.9, 0.98))
    rising, falling = training.warmup_steps, training.steps - training.warmup_steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rising, (training.steps - step) / falling)
    )
    start = time.perf_counter()
    model.train()
    for step in range(1, training.steps + 1):
        batch = pairs(step)
        # All prompts are equally long, and so are all answers: there is nothing to pad.
        input_ids = tokenizer([prompt + answer + EOS for prompt, answer in batch], return_tensors="pt").input_ids
        labels = input_ids.clone()
        # The label that the loss leaves out: prompts are given, and only answers are learned.
        labels[:, : len(batch[0][0])] = -100
        with torch.autocast("cpu", training.dtype, enabled=training.dtype != torch.float32):
            loss = model(input_ids=input_ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            elapsed_s = time.perf_counter() - start
            print(f"step {step:4d}/{training.steps}  loss {loss.item():.3f}  {elapsed_s:3.0f} s", flush=True)
    model.eval()


def score(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Row],
    *,
    sampled: bool,
    seed: int = 0,
) -> float:
    """Mean exact match, one completion for each row.

    Args:
        model: The policy, in evaluation mode.
        tokenizer: The policy's own.
        rows: With the columns "prompt" and "answer", each of one length.
        sampled: Whether to sample at temperature 1 from the whole vocabulary, or to decode greedily.
        seed: Sets the samples.
    """
    prompts, answers = [row["prompt"] for row in rows], [row["answer"] for row in rows]
    inputs = tokenizer(prompts, return_tensors="pt")
    # Unless told otherwise, sampling keeps the 50 likeliest tokens only.
    decoding = GenerationConfig(
        max_new_tokens=len(answers[0]) + 1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **({"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {}),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokens = model.generate(**inputs, generation_config=decoding)
    completions = tokenizer.batch_decode(tokens[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    rewards = exact_match(prompts=prompts, completions=completions, answer=answers)
    return sum(rewards) / len(rewards)
