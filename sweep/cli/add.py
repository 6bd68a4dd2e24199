"""`sweep add`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.cli.options import StorageOption
from sweep.cli.stored import StoredStudyArgument, open_stored
from sweep.storage.default import DEFAULT_STORAGE
from sweep.text import rung

if TYPE_CHECKING:
    from sweep.study.space import Point, SearchSpace


def add(
    study: StoredStudyArgument,
    point: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE...", help="A point: every parameter of the search space, on its ladder."),
    ],
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Queue one more point of a stored study, from any terminal, while it runs or not.

    It is tried next, besides the trials that the study declares, and marked as added: ranks are compared without it,
    for points that one chose by hand are not those that every rank got. Where the study has ended, `sweep run` runs it.

    Examples: `sweep add tiny r=16 alpha=64 learning_rate=0.001`
    """
    from sweep.storage.requests import add_point
    from sweep.storage.summary import stored_config

    stored = open_stored(study, storage)
    chosen = read_point(point, stored_config(stored).search_space())
    number = add_point(stored, chosen)
    said = " ".join(f"{name}={rung(value)}" for name, value in chosen.items())
    typer.echo(f"queued as trial {number}: {said}; whoever runs the study takes it next, else `sweep run` does")


def read_point(words: list[str], space: SearchSpace) -> Point:
    """A point from words like `r=8`.

    Raises:
        BadParameter: where one is missing, unknown or on no ladder.
    """
    ladders, point = space.ladders, dict[str, Any]()
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name not in ladders or name in point:
            raise typer.BadParameter(f"{word!r}; allowed: each of {', '.join(f'{key}=...' for key in ladders)} once")
        point[name] = _on_ladder(name, text, ladders[name])
    if missing := [name for name in ladders if name not in point]:
        raise typer.BadParameter(f"a point needs {', '.join(missing)} too, as in {missing[0]}={ladders[missing[0]][0]}")
    return {name: point[name] for name in ladders}


def _on_ladder(name: str, text: str, ladder: tuple[Any, ...]) -> Any:
    for value in ladder:
        try:
            # A bool is a number to Python: 1 would stand for true.
            named = isinstance(value, (bool, str))
            if (text.lower() == str(value).lower()) if named else (float(text) == value):
                return value
        except ValueError:
            break
    allowed = ", ".join(map(rung, ladder))
    raise typer.BadParameter(f"{name}={text}; allowed, for it is the ladder of the study: {allowed}")
