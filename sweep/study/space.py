"""The search space: static ladders, none of them above the adapter ceiling."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from objectives.lora import modules_of

Point = dict[str, int | float | bool | str]
"""One choice of every parameter, by the names that Optuna stores: r, alpha, learning_rate, ..."""


def alpha_of(point: Mapping[str, Any]) -> int | None:
    """lora_alpha of a point, be it searched by itself or as a multiple of r; None where a point has neither yet."""
    if "alpha_per_r" in point and "r" in point:
        alpha_here: int = round(point["alpha_per_r"] * point["r"])
        return alpha_here
    alpha = point.get("alpha")
    return None if alpha is None else int(alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """Ladders in ascending order.

    Nothing outside them can be sampled, so nothing above `max_lora_rank` can be: the wall holds by construction.

    Raises:
        ValueError: where a ladder is empty, unordered or passes the wall.
    """

    max_lora_rank: int
    r: tuple[int, ...]
    alpha: tuple[int, ...]
    learning_rate: tuple[float, ...]
    use_rslora: tuple[bool, ...] = (False,)
    alpha_above_ceiling: bool = False
    alpha_per_r: tuple[float, ...] | None = None
    """lora_alpha in multiples of r. Where it is given, it is searched instead of `alpha`."""
    target_modules: tuple[str, ...] | None = None
    """Sets of target modules, in any order. None: they are not searched."""

    def __post_init__(self) -> None:
        for name in ("r", self.alpha_name, "learning_rate", "use_rslora"):
            ladder = getattr(self, name)
            if not ladder or any(low >= high for low, high in itertools.pairwise(ladder)):
                raise ValueError(f"space.{name}={list(ladder)} must hold one value or more, in ascending order")
            if name != "use_rslora" and not (ladder[0] > 0 and math.isfinite(ladder[-1])):
                raise ValueError(f"space.{name}={list(ladder)} must hold finite values above 0")
        self._check_wall("r", self.r[-1])
        self._check_target_sets()
        if self.alpha_per_r is not None:
            self._check_multiples(self.alpha_per_r)
        elif not self.alpha_above_ceiling:
            self._check_wall("alpha", self.alpha[-1])

    def _check_wall(self, name: str, top: float) -> None:
        if top > self.max_lora_rank:
            hint = "" if name == "r" else "; space.alpha_above_ceiling=true lifts this for alpha"
            raise ValueError(
                f"space.{name}: {name}={top:g} exceeds max_lora_rank={self.max_lora_rank}; "
                f"allowed: 1 to {self.max_lora_rank}{hint}"
            )

    def _check_multiples(self, multiples: tuple[float, ...]) -> None:
        """Every rank must have every multiple: the design is the same for all."""
        for r, times in itertools.product(self.r, multiples):
            if (alpha := r * times) != round(alpha):
                raise ValueError(f"space.alpha_per_r: {times:g} x r={r} is {alpha:g}; alpha is a whole number")
        top = self.r[-1] * multiples[-1]
        if top > self.max_lora_rank and not self.alpha_above_ceiling:
            raise ValueError(
                f"space.alpha_per_r: {multiples[-1]:g} x r={self.r[-1]} is alpha={top:g}, which exceeds "
                f"max_lora_rank={self.max_lora_rank}; give model.max_lora_rank={top:g} or more, or let alpha exceed it "
                "with space.alpha_above_ceiling=true"
            )

    def _check_target_sets(self) -> None:
        """No two may be the same modules: their trials would be the same."""
        named: dict[frozenset[str], str] = {}
        for name in self.target_modules or ():
            try:
                modules = frozenset(modules_of(name))
            except ValueError as error:
                raise ValueError(f"space.target_modules: {error}") from error
            if modules in named:
                raise ValueError(f"space.target_modules: {named[modules]!r} and {name!r} are the same modules")
            named[modules] = name
        if self.target_modules == ():
            raise ValueError("space.target_modules=[] must hold one set or more")

    @property
    def alpha_name(self) -> str:
        """The parameter that decides alpha."""
        return "alpha" if self.alpha_per_r is None else "alpha_per_r"

    def with_alpha(self, r: int, alpha: int) -> Point:
        """A point's r and alpha under the names that are searched."""
        return {"r": r, "alpha": alpha} if self.alpha_per_r is None else {"r": r, "alpha_per_r": alpha / r}

    def middle_alpha(self, r: int) -> int:
        """The alpha in the middle of the ladder, for a rank."""
        ladder = self.alpha if self.alpha_per_r is None else self.alpha_per_r
        return alpha_of({"r": r, self.alpha_name: ladder[len(ladder) // 2]}) or 0

    @property
    def ladders(self) -> dict[str, tuple[Any, ...]]:
        """Every parameter that is searched, r first. `use_rslora` is one only where there is a choice.

        `target_modules` is one wherever the study file has it, so that it may gain sets.
        """
        ladders: dict[str, tuple[Any, ...]] = {
            "r": self.r, self.alpha_name: getattr(self, self.alpha_name), "learning_rate": self.learning_rate,
        }  # fmt: skip
        if len(self.use_rslora) > 1:
            ladders["use_rslora"] = self.use_rslora
        if self.target_modules is not None:
            ladders["target_modules"] = self.target_modules
        return ladders

    @property
    def compared(self) -> dict[str, tuple[Any, ...]]:
        """The ladders whose every combination gets the same points in the design: r, and sets of target modules."""
        return {name: ladder for name, ladder in self.ladders.items() if name in ("r", "target_modules")}

    @property
    def tuned(self) -> dict[str, tuple[Any, ...]]:
        """The other ladders, which the points of the design are spread over."""
        return {name: ladder for name, ladder in self.ladders.items() if name not in self.compared}

    @property
    def settings_per_rank(self) -> int:
        """How many choices there are for each rank and set of target modules."""
        return math.prod(map(len, self.tuned.values()))

    def crossed(self, rows: Iterable[Point]) -> list[Point]:
        """Points for every rank and set of target modules, the first of every rank before the second of any.

        Args:
            rows: Choices on the other ladders.
        """
        others = [ladder for name, ladder in self.compared.items() if name != "r"]
        names = [name for name in self.compared if name != "r"]
        return [
            {"r": r, **row, **dict(zip(names, values, strict=True))}
            for row in rows
            for values in itertools.product(*others)
            for r in self.r
        ]

    def design(self, points_per_rank: int, *, seed: int) -> list[Point]:
        """The points that every rank gets before the search adapts: the same for each rank, spread over its ladders.

        Where sets of target modules are searched, every rank gets them for each set.

        A Latin hypercube over the ladders' rungs (McKay, Beckman and Conover, 1979); of 256 seeded draws, the one
        whose closest two points are farthest apart.

        Args:
            points_per_rank: 1 to `settings_per_rank`.
            seed: Decides the draw.

        Returns:
            points_per_rank x len(r) points, times the sets; the first of every rank before the second of any.
        """
        ladders = self.tuned
        if points_per_rank == self.settings_per_rank:
            chosen = list(itertools.product(*ladders.values()))
        else:
            rungs = _spread_rungs([len(ladder) for ladder in ladders.values()], points_per_rank, seed=seed)
            chosen = [tuple(ladder[i] for ladder, i in zip(ladders.values(), row, strict=True)) for row in rungs]
        return self.crossed(dict(zip(ladders, values, strict=True)) for values in chosen)


def default_ladder(max_lora_rank: int, *, rungs: int) -> tuple[int, ...]:
    """Powers of 4 below the ceiling and the ceiling itself, the largest `rungs` of them."""
    below = [4**k for k in range(5) if 4**k < max_lora_rank]
    return (*below, max_lora_rank)[-rungs:]


def _spread_rungs(lengths: list[int], n: int, *, seed: int) -> list[tuple[int, ...]]:
    """N distinct rows of rung indices, one column per ladder, each column spread evenly over its ladder."""
    import numpy as np
    from scipy.stats import qmc

    rng = np.random.default_rng(seed)
    best: list[tuple[int, ...]] = []
    best_distance = -1.0
    # Few rows on short ladders often coincide; a draw that does is passed over, and the whole grid is the fallback.
    for _ in range(256):
        draw = qmc.LatinHypercube(len(lengths), rng=rng).random(n)
        rows = [tuple(int(u * k) for u, k in zip(row, lengths, strict=True)) for row in draw]
        distance = min(
            (sum(abs(a - b) / k for a, b, k in zip(p, q, lengths, strict=True))
             for p, q in itertools.combinations(rows, 2)),
            default=1.0,
        )  # fmt: skip
        if distance > best_distance:
            best, best_distance = rows, distance
    if best_distance > 0:
        return best
    grid = list(itertools.product(*(range(k) for k in lengths)))
    return [grid[i] for i in sorted(rng.choice(len(grid), n, replace=False))]
