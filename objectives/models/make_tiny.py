"""Makes the shipped tiny policy: a 0.30M-parameter Llama that is unsure what its symbols mean.

It lets every part of a rank sweep run for real on a machine with neither GPU nor model hub. Training is
supervised, on answers with deliberate label noise: the model learns to compute all twelve functions of
the string task, but for each symbol it only leans towards the right one. So reinforcement learning earns
a reward from its first step on, and has something to gain within a hundred.
"""

from __future__ import annotations

import argparse
import random
import string
import time
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from objectives.tasks.string_ops import (
    DISTRACTORS,
    SYMBOL_COUNTS,
    SYMBOLS,
    StringOps,
    apply,
    prompt_for,
    strings,
)

TINY = Path(__file__).parent / "tiny"
"""The shipped policy's folder."""

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
CHARACTERS = string.ascii_letters + string.digits + " :>=+-?"
CONTEXT_LENGTH = 128

STEPS = 2000
WARMUP_STEPS = 50
BATCH_SIZE = 128
LEARNING_RATE = 3e-3

OWN_FUNCTION_PROBABILITY = 0.3
"""How often the warm start gives a symbol its own function, and not one of its distractors'."""


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


def make_model(tokenizer: PreTrainedTokenizerFast, *, seed: int) -> LlamaForCausalLM:
    """Returns the untrained policy.

    Args:
        tokenizer: Sets the vocabulary and the special tokens.
        seed: Sets the initial weights.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        # Llama's default of 0.02 is meant for wider models; this narrow one learns slowly from it.
        initializer_range=0.05,
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


def warm_start_pairs(rng: random.Random, n: int) -> list[tuple[str, str]]:
    """Draws prompts on strings that are not held out, with noisy answers.

    Args:
        rng: The source of all randomness.
        n: How many to draw, with replacement.

    Returns:
        Pairs of a prompt and an answer: the symbol's own function of the letters with a probability of
        0.3, else that of a distractor.
    """
    symbols = tuple(SYMBOLS)
    pool = strings(held_out=False)
    pairs = []
    for _ in range(n):
        symbol, letters = rng.choice(symbols), rng.choice(pool)
        own = rng.random() < OWN_FUNCTION_PROBABILITY
        answering = symbol if own else rng.choice(DISTRACTORS[symbol])
        pairs.append((prompt_for(symbol, letters), apply(answering, letters)))
    return pairs


def warm_start(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> None:
    """Trains the model in place on noisy answers, printing a line every 200 steps.

    Args:
        model: The untrained policy.
        tokenizer: The policy's own.
        seed: Sets the training data.
    """
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARMUP_STEPS, (STEPS - step) / (STEPS - WARMUP_STEPS))
    )
    start = time.perf_counter()
    model.train()
    for step in range(1, STEPS + 1):
        pairs = warm_start_pairs(rng, BATCH_SIZE)
        # All prompts are equally long, and so are all answers: there is nothing to pad.
        texts = [prompt + answer + EOS for prompt, answer in pairs]
        input_ids = tokenizer(texts, return_tensors="pt").input_ids
        labels = input_ids.clone()
        # The label that the loss leaves out: prompts are given, and only answers are learned.
        labels[:, : len(pairs[0][0])] = -100
        loss = model(input_ids=input_ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            elapsed_s = time.perf_counter() - start
            print(f"step {step:4d}/{STEPS}  loss {loss.item():.3f}  {elapsed_s:3.0f} s", flush=True)
    model.eval()


def score(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    *,
    symbols: int,
    sampled: bool,
    n: int = 1024,
    seed: int = 0,
) -> float:
    """Mean exact match on held-out prompts of the string task.

    Args:
        model: The policy, in evaluation mode.
        tokenizer: The policy's own.
        symbols: The task's number of symbols.
        sampled: Whether to sample at temperature 1 from the whole vocabulary, or to decode greedily.
        n: Held-out prompts, one completion each.
        seed: Sets the samples; the prompts are always the same.
    """
    task = StringOps(symbols=symbols)
    rows = task.held_out_rows(n)
    prompts = [row["prompt"] for row in rows]
    inputs = tokenizer(prompts, return_tensors="pt")
    # Unless told otherwise, sampling keeps the 50 likeliest tokens only.
    decoding = GenerationConfig(
        max_new_tokens=task.max_completion_tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **({"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {}),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokens = model.generate(**inputs, generation_config=decoding)
    completions = tokenizer.batch_decode(tokens[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    (exact_match,) = task.reward_functions
    rewards = exact_match(prompts=prompts, completions=completions, answer=[row["answer"] for row in rows])
    return sum(reward or 0.0 for reward in rewards) / len(rewards)


def main() -> None:
    """Makes the policy, saves it, and prints its base scores."""
    parser = argparse.ArgumentParser(
        prog="python -m objectives.models.make_tiny",
        description=__doc__,
        epilog="Takes two to four minutes on one core. The shipped weights are those of seed 0.\n"
        "The same seed gives the same weights on the same machine and package versions.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=TINY,
        metavar="DIR",
        help="folder for weights, configuration and tokenizer; without it, the shipped policy is overwritten",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="sets initial weights and training data; other seeds give policies with other base scores "
        "(default: %(default)s)",
    )
    args = parser.parse_args()

    # The order of floating-point sums, and with it the weights, would depend on the number of threads.
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed=args.seed)
    warm_start(model, tokenizer, seed=args.seed)
    model.save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)

    print(f"Saved to {args.output}. Exact match on 1,024 held-out prompts:")
    for symbols in SYMBOL_COUNTS:
        sampled, greedy = (score(model, tokenizer, symbols=symbols, sampled=way) for way in (True, False))
        print(f"{symbols:3d} symbols  sampled {sampled:.3f}  greedy {greedy:.3f}")


if __name__ == "__main__":
    main()
