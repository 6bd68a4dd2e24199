"""Expressions: a symbol names p x + q y, and the answer is its last two digits, units first, so that carries go along.

The prompt `A:3758>` asks for the first symbol's expression at x = 37 and y = 58. As in the string task, the policy that
`make policy-small` makes can compute all ten expressions, and takes each of the 50 symbols for one of four.
A study names the data as `objectives.tasks.expressions:rows`.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from functools import cache
from itertools import islice, product

from objectives.tasks import string_ops
from objectives.tasks.protocol import Row

EXPRESSIONS = ((0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (1, -1), (-1, 1))
"""The factors p and q of each expression p x + q y."""

SYMBOLS = string.ascii_uppercase + string.ascii_lowercase[:24]
"""A symbol names the expression of its own place, modulo the number of expressions: five symbols to each."""

_DISTRACTOR_STEPS = (1, 3, 7)
"""Fixed steps around the circle of expressions make each a distractor exactly as often."""

MODULUS = 100
TRAINING, HELD_OUT = 8192, 1024
"""Rows of each split."""


def meanings(symbol: str) -> tuple[int, ...]:
    """The places in `EXPRESSIONS` of a symbol's own expression, and then of the three that it is confused with."""
    place = SYMBOLS.index(symbol)
    return tuple((place + step) % len(EXPRESSIONS) for step in (0, *_DISTRACTOR_STEPS))


def evaluate(expression: int, x: int, y: int) -> str:
    """Returns the last two digits of an expression's value, units first."""
    p, q = EXPRESSIONS[expression]
    return f"{(p * x + q * y) % MODULUS:02d}"[::-1]


def prompt_for(symbol: str, x: int, y: int) -> str:
    """Returns the seven-character prompt."""
    return f"{symbol}:{x:02d}{y:02d}>"


def is_held_out(x: int, y: int) -> bool:
    """Whether a pair of numbers is kept from all training, for every symbol: about one in nine.

    The same numbers the other way round may be trained on: of two of the ten expressions they have the same value.
    """
    return string_ops.is_held_out(f"{x:02d}{y:02d}")


@cache
def numbers(*, held_out: bool) -> tuple[tuple[int, int], ...]:
    """Returns all pairs of numbers of one split, in order."""
    each = range(MODULUS)
    return tuple((x, y) for x, y in product(each, each) if is_held_out(x, y) == held_out)


def rows() -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows to hold out, with the columns "prompt", "answer" and "symbol".

    Symbols come equally often, to one; pairs of numbers are never in both.
    """
    return list(islice(_rows(held_out=False), TRAINING)), list(islice(_rows(held_out=True), HELD_OUT))


def _rows(*, held_out: bool) -> Iterator[Row]:
    rng = random.Random(f"expressions held_out={held_out}")
    pool = numbers(held_out=held_out)
    for symbol, (x, y) in string_ops.balanced(rng, SYMBOLS, pool):
        yield {"prompt": prompt_for(symbol, x, y), "answer": evaluate(meanings(symbol)[0], x, y), "symbol": symbol}
