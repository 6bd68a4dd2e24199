"""The points that every rank gets before the search adapts, for a study whose ladders may have been made longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sweep.storage.ladders import Ladders
from sweep.study.file import StudyFile
from sweep.study.space import Point

Key = tuple[tuple[str, Any], ...]


def point_key(point: Point) -> Key:
    """A point that can be looked up, in whatever order its parameters came."""
    return tuple(sorted(point.items()))


def design(config: StudyFile, earlier: Sequence[Ladders] = ()) -> list[Point]:
    """A study's design, the same for every rank; `earlier` are its ladders before each extension, in order.

    After an extension every rank, with each set of target modules, has the rows that the design had, and those rows of
    a design over the longer ladders that hold a new rung: new rungs are looked at as they would have been from the
    start, and no row is run for nothing.
    """
    now = config.search_space()
    spaces = [*(replace(now, **dict[str, Any](ladders)) for ladders in earlier), now]
    rows: dict[Key, Point] = {}
    known: dict[str, set[Any]] = {}
    for space in spaces:
        for point in space.design(config.search.points_per_rank, seed=config.study.seed):
            row = {name: value for name, value in point.items() if name in space.tuned}
            if not all(value in known.get(name, ()) for name, value in row.items()):
                rows[point_key(row)] = row
        known = {name: set(ladder) for name, ladder in space.tuned.items()}
    return now.crossed(rows.values())
