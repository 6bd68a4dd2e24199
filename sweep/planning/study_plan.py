"""A study before anything loads: what will be searched, what it holds in memory, and what it may spend."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from objectives.errors import ModelConfigError, UnknownModelError
from sweep.errors import StudyFileError
from sweep.planning.cards import CardPlan
from sweep.planning.measured import Measured
from sweep.planning.memory import WITHOUT_MEMORY, MemoryPlan, plan_memory
from sweep.planning.notes import plan_notes
from sweep.planning.pack import completion_tokens
from sweep.planning.roofline import TimeEstimate
from sweep.planning.verdict import VerdictPlan, plan_verdict
from sweep.preflight.devices import Device
from sweep.preflight.placement import place
from sweep.preflight.prompts import PromptPlan
from sweep.preflight.worker_places import planned_workers, workers_note
from sweep.study.file import StudyFile
from sweep.study.provenance import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """What will be searched, in trials."""

    ladders: dict[str, list[int | float | bool | str]]
    points_per_rank: int
    design_trials: int
    tpe_trials: int
    trials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What is sampled and trained on. Tokens are an upper bound: every completion of full length."""

    steps: int
    prompts: int
    episodes: int
    """Completions that are sampled: none where preference pairs are only ranked."""
    completion_tokens: int
    evaluation_completions: int
    """Of held-out prompts. The base policy's own scores, one a seed and start, come on top."""
    evaluation_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """All of it. `memory` is None where the model's shape is not known, and only a calibration has `measured`.

    `prompts` are known where the data and the model's tokenizer are on this machine.
    """

    study: str
    memory: MemoryPlan | None
    search: SearchPlan
    device: Device | None
    per_trial: Spending
    in_all: Spending
    verdict: VerdictPlan
    notes: tuple[str, ...]
    settings: tuple[Setting, ...]
    workers: int = 1
    """How many run trials at the same time; each holds all of `memory`."""
    prompts: PromptPlan | None = None
    measured: Measured | None = None
    time: TimeEstimate | None = None
    """Where the device is a card of the table, and the study fits on it."""
    cards: tuple[CardPlan, ...] = ()
    """What every card of the table would do."""

    def as_json(self) -> dict[str, Any]:
        """What `sweep plan --json` prints."""
        return {
            "study": self.study,
            "workers": self.workers,
            "search": asdict(self.search),
            **(WITHOUT_MEMORY if self.memory is None else self.memory.as_json()),
            "device": None if self.device is None else asdict(self.device),
            "time": None if self.time is None else self.time.as_json(),
            "cards": [card.as_json() for card in self.cards],
            "prompts": None if self.prompts is None else self.prompts.as_json(),
            "budget": {"per_trial": asdict(self.per_trial), "in_all": asdict(self.in_all)},
            "verdict": asdict(self.verdict),
            "notes": list(self.notes),
            "settings": [asdict(setting) for setting in self.settings],
            "measured": None if self.measured is None else asdict(self.measured),
        }


def plan_study(config: StudyFile, *, device: Device | None, settings: tuple[Setting, ...]) -> StudyPlan:
    """Plans a study from its file and its model's config.json.

    Args:
        config: The study.
        device: The GPU to plan for; None for the CPU, unless the study needs a GPU.
        settings: What is in force, and where from.

    Raises:
        StudyFileError: where the model lacks a target module.
    """
    memory: MemoryPlan | None = None
    unknown: tuple[str, ...] = ()
    try:
        memory = plan_memory(config, device)
    except UnknownModelError as error:
        unknown = (f"Memory is left out: {error}.",)
    except ModelConfigError as error:
        raise StudyFileError(f"model: {error}") from error
    return StudyPlan(
        study=config.study.name,
        memory=memory,
        search=_search(config),
        device=device,
        workers=planned_workers(config, device),
        per_trial=_spending(config, trials=1),
        in_all=_spending(config, trials=config.search.trials),
        verdict=plan_verdict(config),
        notes=unknown
        + tuple(note for note in (workers_note(config, device),) if note)
        + plan_notes(
            config,
            device=device,
            engine=place(config, device).engine,
            adapters=None if memory is None else memory.adapters,
            completion_tokens=completion_tokens(config),
        ),
        settings=settings,
    )


def _search(config: StudyFile) -> SearchPlan:
    space, search = config.search_space(), config.search
    design = config.design_size
    return SearchPlan(
        ladders={name: list(ladder) for name, ladder in space.ladders.items()},
        points_per_rank=search.points_per_rank,
        design_trials=design,
        tpe_trials=max(0, search.trials - design),
        trials=search.trials,
    )


def _spending(config: StudyFile, *, trials: int) -> Spending:
    budget, tokens = config.budget, completion_tokens(config)
    worker = config.worker_settings(Path())
    episodes = worker.episodes * trials if config.task.samples else 0
    # Every held-out prompt is answered once sampled, and once greedily where that is wanted.
    evaluations = (1 + config.task.greedy) * config.task.held_out_prompts * trials if config.task.samples else 0
    return Spending(
        steps=budget.steps * trials,
        prompts=worker.rollouts * budget.prompts_per_step * trials,
        episodes=episodes,
        completion_tokens=episodes * tokens,
        evaluation_completions=evaluations,
        evaluation_tokens=evaluations * tokens,
    )
