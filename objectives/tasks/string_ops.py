"""String operations: a symbol names a function, and the answer is that function of four letters.

The prompt `B:efeh>` asks for the reverse of `efeh`; the answer is `hefe`. The shipped tiny policy can
compute all twelve functions but is unsure which one a symbol stands for: its warm start mixed each
symbol's own function with three distractors. Reinforcement learning has to pick the right one symbol by
symbol, so the number of symbols in play sets how much the task asks of an adapter.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice, product
from types import MappingProxyType
from typing import Any, TypeVar

from objectives.tasks.protocol import RewardFunction, Row

T = TypeVar("T")

LETTERS = "abcdefghij"
"""The alphabet of the strings; caesar shifts wrap around in it."""

STRING_LENGTH = 4
"""Letters in a prompt's string, and characters in every answer."""

SYMBOL_COUNTS = (1, 4, 12)
"""How many symbols a task may use; it takes them from A on."""


def _caesar(letters: str, shift: int) -> str:
    return "".join(LETTERS[(LETTERS.index(letter) + shift) % len(LETTERS)] for letter in letters)


FUNCTIONS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "copy": lambda s: s,
        "reverse": lambda s: s[::-1],
        "sort": lambda s: "".join(sorted(s)),
        "sort descending": lambda s: "".join(sorted(s, reverse=True)),
        "rotate left": lambda s: s[1:] + s[:1],
        "rotate right": lambda s: s[-1:] + s[:-1],
        "swap halves": lambda s: s[2:] + s[:2],
        "swap pairs": lambda s: s[1] + s[0] + s[3] + s[2],
        "caesar +1": lambda s: _caesar(s, 1),
        "caesar -1": lambda s: _caesar(s, -1),
        "duplicate the first two": lambda s: s[:2] * 2,
        "last letter four times": lambda s: s[-1] * 4,
    }
)
"""The twelve functions by name, each from four letters to four letters."""

SYMBOLS: Mapping[str, str] = MappingProxyType(dict(zip("ABCDEFGHIJKL", FUNCTIONS, strict=True)))
"""The function that each symbol names."""

# Fixed steps around the circle of symbols make every function a distractor exactly three times.
_DISTRACTOR_STEPS = (1, 3, 7)

DISTRACTORS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        symbol: tuple(tuple(SYMBOLS)[(i + step) % len(SYMBOLS)] for step in _DISTRACTOR_STEPS)
        for i, symbol in enumerate(SYMBOLS)
    }
)
"""For each symbol, the three others whose functions the warm start confuses it with."""

CHARACTERS = "".join(SYMBOLS) + LETTERS + ":>"
"""Every character that prompts and answers are made of."""


def apply(symbol: str, letters: str) -> str:
    """Returns the right answer: the symbol's function of the letters."""
    return FUNCTIONS[SYMBOLS[symbol]](letters)


def prompt_for(symbol: str, letters: str) -> str:
    """Returns the seven-character prompt."""
    return f"{symbol}:{letters}>"


def is_held_out(letters: str) -> bool:
    """Whether a string is kept from all training, for every symbol and every seed."""
    # 28 of 256 is 10.9 %: 10 % would leave a single symbol fewer than 1,024 held-out prompts.
    return hashlib.sha256(letters.encode()).digest()[0] < 28


@cache
def strings(*, held_out: bool) -> tuple[str, ...]:
    """Returns all strings of one split, in alphabetical order."""
    every = ("".join(letters) for letters in product(LETTERS, repeat=STRING_LENGTH))
    return tuple(letters for letters in every if is_held_out(letters) == held_out)


def balanced(rng: random.Random, symbols: Sequence[str], pool: Sequence[T]) -> Iterator[tuple[str, T]]:
    """Gives every symbol every member of the pool once, in rounds that have each symbol once, in a fresh order.

    So any number of pairs is spread over the symbols as evenly as it divides.
    """
    orders = [rng.sample(pool, k=len(pool)) for _ in symbols]
    for draw in zip(*orders, strict=True):
        yield from rng.sample(list(zip(symbols, draw, strict=True)), k=len(symbols))


def exact_match(prompts: list[str], completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    """Rewards 1.0 for a completion that is the answer and nothing else, otherwise 0.0."""
    return [float(completion == right) for completion, right in zip(completions, answer, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class StringOps:
    """The string task with its first 1, 4 or 12 symbols.

    A row has the columns "prompt", "answer" and "symbol". No pair of symbol and string comes twice, and
    any number of rows is spread over the symbols as evenly as it divides.

    Raises:
        ValueError: `symbols` is not one of `SYMBOL_COUNTS`.
    """

    symbols: int = 12
    """Symbols in play."""
    seed: int = 0
    """Sets the order of the rows in both splits, not which strings are held out."""

    def __post_init__(self) -> None:
        """Refuses a number of symbols that the task is not defined for."""
        if self.symbols not in SYMBOL_COUNTS:
            allowed = ", ".join(map(str, SYMBOL_COUNTS))
            raise ValueError(f"symbols={self.symbols!r} is not a size of this task; allowed: {allowed}")

    @property
    def name(self) -> str:
        """The task's name, with its number of symbols."""
        return f"string_ops_{self.symbols}"

    @property
    def max_completion_tokens(self) -> int:
        """The answer's characters, a token each, and the end-of-sequence token."""
        return STRING_LENGTH + 1

    @property
    def reward_functions(self) -> Sequence[RewardFunction]:
        """Exact match alone."""
        return (exact_match,)

    @property
    def reward_weights(self) -> Sequence[float]:
        """A weight of one."""
        return (1.0,)

    def train_rows(self, n: int) -> list[Row]:
        """Returns up to `n` rows on strings that are not held out."""
        return list(islice(self._rows(held_out=False), n))

    def held_out_rows(self, n: int) -> list[Row]:
        """Returns up to `n` rows on held-out strings."""
        return list(islice(self._rows(held_out=True), n))

    def _rows(self, *, held_out: bool) -> Iterator[Row]:
        rng = random.Random(f"string_ops seed={self.seed} held_out={held_out}")
        symbols = tuple(SYMBOLS)[: self.symbols]
        pool = strings(held_out=held_out)
        for symbol, letters in balanced(rng, symbols, pool):
            yield {"prompt": prompt_for(symbol, letters), "answer": apply(symbol, letters), "symbol": symbol}
