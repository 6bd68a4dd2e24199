"""Makes the policy `shipped/small`: a 3.2M-parameter Llama that is unsure which expressions its symbols name.

It has ten times the weights of the shipped tiny policy and four times the choices to make: 50 symbols, each taken for
one of four of ten arithmetic expressions. Training is supervised, in two parts. In the first every symbol has its
own expression, so that the model learns to calculate; in the second it has that or a distractor's, so that the model
learns to doubt. Reinforcement learning then has 50 meanings to settle.

Weights depend on the processor and on the number of threads, in their last digits: another machine's policy of the same
seed is another one. A study stores the digest of those it ran on.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import torch

from objectives.machine import has_native_bfloat16
from objectives.models.warm_start import Shape, Training, make_model, make_tokenizer, score, train
from objectives.tasks.expressions import SYMBOLS, evaluate, meanings, numbers, prompt_for, rows

SMALL = Path(__file__).parent / "small"
"""Where studies look for it."""

SHAPE = Shape(hidden_size=256, intermediate_size=768, layers=4, heads=8, kv_heads=4, initializer_range=0.03)
TRAINING = Training(
    steps=3200,
    warmup_steps=100,
    batch_size=256,
    learning_rate=1.5e-3,
    # Four times as fast where the processor has it, and slower than float32 where it has not.
    dtype=torch.bfloat16 if has_native_bfloat16() else torch.float32,
)
CALCULATING_STEPS = 800
"""Steps of the first part."""

OWN_EXPRESSION_PROBABILITY = 0.3
"""How often the second part gives a symbol its own expression, and not one of its distractors'."""


def warm_start_pairs(rng: random.Random, n: int, *, noisy: bool) -> list[tuple[str, str]]:
    """Draws prompts on numbers that are not held out, and answers.

    Args:
        rng: The source of all randomness.
        n: How many to draw, with replacement.
        noisy: Whether symbols have distractors' expressions in seven cases of ten, or always their own.
    """
    pool = numbers(held_out=False)
    pairs = []
    for _ in range(n):
        symbol, (x, y) = rng.choice(SYMBOLS), rng.choice(pool)
        own, *distractors = meanings(symbol)
        doubted = noisy and rng.random() >= OWN_EXPRESSION_PROBABILITY
        pairs.append((prompt_for(symbol, x, y), evaluate(rng.choice(distractors) if doubted else own, x, y)))
    return pairs


def main() -> None:
    """Makes the policy, saves it, and prints its base score."""
    parser = argparse.ArgumentParser(
        prog="python -m objectives.models.make_small",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=SMALL,
        metavar="DIR",
        help="folder for weights, configuration and tokenizer (default: where `shipped/small` is looked for)",
    )
    parser.add_argument("--seed", type=int, default=0, help="sets initial weights and training data (default: 0)")
    args = parser.parse_args()

    tokenizer = make_tokenizer()
    model = make_model(tokenizer, SHAPE, seed=args.seed)
    rng = random.Random(args.seed)
    batch = TRAINING.batch_size
    train(model, tokenizer, lambda step: warm_start_pairs(rng, batch, noisy=step > CALCULATING_STEPS), TRAINING)
    model.save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)

    held_out = rows()[1]
    sampled, greedy = (score(model, tokenizer, held_out, sampled=way) for way in (True, False))
    print(f"Saved to {args.output}. Exact match on {len(held_out):,} held-out prompts:")
    print(f"sampled {sampled:.3f}  greedy {greedy:.3f}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("make_small: interrupted; nothing was saved")
