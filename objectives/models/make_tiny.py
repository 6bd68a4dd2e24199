"""Makes the shipped tiny policy: a 0.30M-parameter Llama that is unsure what its symbols mean.

It lets every part of a rank sweep run for real on a machine with neither GPU nor model hub. Training is
supervised, on answers with deliberate label noise: the model learns to compute all twelve functions of
the string task, but for each symbol it only leans towards the right one. So reinforcement learning earns
a reward from its first step on, and has something to gain within a hundred.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch

from objectives.models.warm_start import Shape, Training, make_model, make_tokenizer, score, train
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

SHAPE = Shape(
    hidden_size=128,
    intermediate_size=256,
    layers=2,
    heads=4,
    kv_heads=2,
    # Llama's default of 0.02 is meant for wider models; this narrow one learns slowly from it.
    initializer_range=0.05,
)
TRAINING = Training(steps=2000, warmup_steps=50, batch_size=128, learning_rate=3e-3)

OWN_FUNCTION_PROBABILITY = 0.3
"""How often the warm start gives a symbol its own function, and not one of its distractors'."""

SCORED = 1024
"""Held-out prompts of a base score."""


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
    model = make_model(tokenizer, SHAPE, seed=args.seed)
    rng = random.Random(args.seed)
    train(model, tokenizer, lambda _: warm_start_pairs(rng, TRAINING.batch_size), TRAINING)
    model.save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)

    print(f"Saved to {args.output}. Exact match on {SCORED:,} held-out prompts:")
    for symbols in SYMBOL_COUNTS:
        rows = StringOps(symbols=symbols).held_out_rows(SCORED)
        sampled, greedy = (score(model, tokenizer, rows, sampled=way) for way in (True, False))
        print(f"{symbols:3d} symbols  sampled {sampled:.3f}  greedy {greedy:.3f}")


if __name__ == "__main__":
    main()
