"""What each searched set of target modules costs: the numbers in an adapter, rank by rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from objectives.lora import modules_of
from objectives.memory.exact import trainer_memory
from objectives.memory.shape import ModelShape
from sweep.study.file import StudyFile


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSetCost:
    """One set of target modules."""

    name: str
    modules: tuple[str, ...]
    parameters: Mapping[int, int]
    """Of one adapter, by rank."""


def target_set_costs(config: StudyFile, shape: ModelShape) -> tuple[TargetSetCost, ...]:
    """Every set of a study that searches them, in the order of its file; empty for one that does not.

    Raises:
        ModelConfigError: where a target module is not in the model.
    """
    return tuple(
        TargetSetCost(
            name=name,
            modules=modules_of(name),
            parameters={r: trainer_memory(shape, r, modules_of(name)).parameters for r in config.search_space().r},
        )
        for name in config.space.target_modules or ()
    )


def largest_set(config: StudyFile, shape: ModelShape) -> str | None:
    """The set whose adapters hold most; None for a study that does not search them.

    Raises:
        ModelConfigError: where a target module is not in the model.
    """
    costs = target_set_costs(config, shape)
    return max(costs, key=lambda each: max(each.parameters.values())).name if costs else None


def trained_modules(config: StudyFile, shape: ModelShape) -> tuple[str, ...]:
    """The modules that an adapter holds in training: of several sets those of the largest, in a pack those of any.

    Raises:
        ModelConfigError: where a target module is not in the model.
    """
    # A slot of a pack takes every trial in turn, so it wraps what any of them adapts; alone, a trial wraps its own.
    return config.target_modules if config.learner.name == "packed" else config.modules_of(largest_set(config, shape))
