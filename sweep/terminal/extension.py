"""What longer ladders bring a study, as lines."""

from __future__ import annotations

import json
from collections.abc import Iterator

from sweep.confirmation.extension import Extension
from sweep.confirmation.naming import FIRST_SEED, confirmation_name
from sweep.storage.ladders import Ladders
from sweep.study.reading import find_study, line_of, load_study, shipped_studies


def extension_lines(extension: Extension) -> Iterator[str]:
    """What is added, and what stays."""
    config, after = extension.config, extension.config.search_space().ladders
    for name, rungs in extension.gained.items():
        yield f"space.{name} gains {_rungs(rungs)}: {_rungs(extension.before[name])} becomes {_rungs(after[name])}"
    yield f"{extension.trials} trials are stored and stay as they are, with their numbers and times"
    yield f"{extension.new_points} points join the design, the same for every rank, before the search adapts further"
    if extension.confirmation is None:
        return
    looked = f"asked for a verdict at {_list(extension.looks)} seeds" if extension.looks else "begun"
    name, first = confirmation_name(config.study.name, extension.generation), FIRST_SEED * (extension.generation + 1)
    yield (
        f"{extension.confirmation} was {looked}: it stays as it is, and `sweep show` has it as an earlier one; what is "
        f"confirmed from now on is {name}, on fresh seeds from {config.study.seed + first}, and says so"
    )


def file_lines(study: str, after: Ladders) -> Iterator[str]:
    """What whoever goes on has to change in the study file, if anything: a study goes on under its own ladders only."""
    declared = load_study(study).search_space().ladders
    changed = {name: rungs for name, rungs in after.items() if declared.get(name) != rungs}
    if not changed:
        return
    if study in shipped_studies():
        yield f"{study} is a shipped study: give the --set of its ladders with every further command"
        return
    path = find_study(study)
    for name, rungs in changed.items():
        line = line_of(path, f"space.{name}")
        where = f"add to [space] in {path}" if line is None else f"change line {line} of {path}"
        yield f"{where}: {name} = {_rungs(rungs)}"


def _rungs(rungs: tuple[object, ...]) -> str:
    return json.dumps(list(rungs))


def _list(numbers: tuple[int, ...]) -> str:
    return " and ".join(map(str, numbers))
