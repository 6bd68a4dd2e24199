"""A study file's sections: what a user may choose, and what each choice means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from objectives.lora import TARGET_MODULES, modules_of
from objectives.settings.learner import LearnerSettings, TrlSettings
from objectives.settings.section import Section
from objectives.settings.sections import BudgetSettings, ModelSettings, RunSettings, WorkerSettings
from objectives.settings.tasks import TaskSettings
from objectives.user_code.by_value import ByValue
from sweep.errors import StorageError
from sweep.study.ceilings import engine_ceiling
from sweep.study.space import SearchSpace, default_ladder
from sweep.study.verdict_section import VerdictSection


class StudySection(Section):
    """What the study is called and where its randomness starts."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """The study's name in storage: letters, digits, `_`, `-` and `.`."""

    description: str = ""
    """One line for whoever lists the studies."""

    seed: int = Field(default=0, ge=0)
    """Decides the design, the sampler, the data split and, with its repetition, each trial's own seed."""

    keep_adapters: bool = False
    """Keep every trial's trained adapter beside its log, for `sweep export` and `sweep dashboard`."""


class SpaceSection(Section):
    """The ladders to search. Numbers are in ascending order."""

    r: tuple[int, ...] | None = None
    """Ranks. Default: powers of 4 up to `model.max_lora_rank`."""

    alpha: tuple[int, ...] | None = None
    """Values of lora_alpha. Default: the top three powers of 4 up to `model.max_lora_rank`."""

    learning_rate: tuple[float, ...]
    """Learning rates. One rate for all ranks would compare rates, not ranks: give three or more."""

    use_rslora: tuple[bool, ...] = (False,)
    """Scale by alpha / sqrt(r) instead of alpha / r; `[false, true]` searches both."""

    alpha_per_r: tuple[float, ...] | None = None
    """lora_alpha in multiples of r, as `[1, 2]`: searched instead of `alpha`. Each multiple of each rank must be a
    whole number."""

    alpha_above_ceiling: bool = False
    """Let alpha exceed `model.max_lora_rank`. The engine only ever limits r."""

    target_modules: tuple[str, ...] | None = None
    """Which modules get an adapter, searched beside r: sets such as `["attention", "mlp", "all"]`, or lists of modules.
    Every rank gets `search.points_per_rank` points with each. Default: `model.target_modules` for all trials."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _name_sets(cls, sets: Any) -> Any:
        if sets is None:
            return None
        if not isinstance(sets, (list, tuple)):
            raise ValueError('must be a list of sets, as ["attention", "mlp", "all"]')  # noqa: TRY004 - pydantic's
        return ["+".join(map(str, each)) if isinstance(each, (list, tuple)) else each for each in sets]

    @model_validator(mode="after")
    def _check_alpha(self) -> SpaceSection:
        if self.alpha is not None and self.alpha_per_r is not None:
            raise ValueError("alpha and alpha_per_r are two ways to say one thing; give one of them")
        return self


class SearchSection(Section):
    """How many trials, and how they are chosen."""

    trials: int = Field(default=24, ge=1)
    """Trials in all. The design comes first; TPE chooses the rest."""

    points_per_rank: int = Field(default=3, ge=1)
    """Points that every rank gets in the design, so that all ranks are tuned alike; where `space.target_modules` is
    searched, with each set."""

    collapse_patience: int = Field(default=5, ge=1)
    """Steps in a row without signal, at a reward far below the base policy's, after which a trial has collapsed and
    ends."""

    pruner: Literal["none", "successive_halving", "hyperband"] = "none"
    """Who may end trials of TPE's early, by their training reward after a quarter and a half of the budget: nobody,
    or Optuna's pruner of that name. It saves time, and discards ranks that learn late. The design is never pruned."""


class StudyFile(Section):
    """A whole study file, checked section by section and as a whole."""

    study: StudySection
    model: ModelSettings
    space: SpaceSection
    task: TaskSettings
    learner: LearnerSettings = TrlSettings()
    budget: BudgetSettings
    search: SearchSection = SearchSection()
    verdict: VerdictSection = VerdictSection()
    run: RunSettings = RunSettings()
    _folder: Path = PrivateAttr(default=Path())
    _by_value: ByValue | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check(self) -> StudyFile:
        engine_ceiling(self.model.max_lora_rank)
        self._check_served_ranks()
        choices = self.search_space().settings_per_rank
        if self.search.points_per_rank > choices:
            raise ValueError(
                f"search.points_per_rank={self.search.points_per_rank} exceeds the {choices} combinations of "
                f"the other ladders; allowed: 1 to {choices}"
            )
        if self.space.target_modules is not None and self.model.target_modules != TARGET_MODULES:
            raise ValueError("space.target_modules is searched instead of model.target_modules; give one of them")
        if self.verdict.guards and not self.task.samples:
            raise ValueError(
                f"verdict.guards: {self.verdict.guards[0].measure!r} is measured on completions, and preference pairs "
                "are only ranked; allowed: no guards, or a function in task.reward"
            )
        # Made for its checks alone: those that concern several sections are a worker's.
        self.worker_settings(Path())
        return self

    def _check_served_ranks(self) -> None:
        top, highest = self.search_space().r[-1], self.model.highest_r
        if top > highest:
            raise ValueError(
                f"space.r: r={top} with model.init_lora_weights={self.model.init_lora_weights!r} is served as an "
                f"adapter of rank {2 * top}; max_lora_rank={self.model.max_lora_rank} allows up to {highest}"
            )

    @property
    def guarded_rewards(self) -> tuple[str, ...]:
        """The reward functions that are guards."""
        measures = [guard.measure.partition(":") for guard in self.verdict.guards]
        return tuple(name for kind, _, name in measures if kind == "reward")

    @property
    def engine_max_lora_rank(self) -> int:
        """The ceiling the engine is given: `model.max_lora_rank`, rounded up to a value that vLLM permits."""
        return engine_ceiling(self.model.max_lora_rank)

    def ceiling_for(self, r: int) -> int:
        """The lowest ceiling that vLLM permits for serving a trial of this rank."""
        return engine_ceiling(r * self.model.served_per_r)

    @property
    def target_modules(self) -> tuple[str, ...]:
        """All modules that any trial adapts: what the engine and a pack have room for."""
        sets = self.space.target_modules
        if sets is None:
            return self.model.target_modules
        return tuple(dict.fromkeys(name for each in sets for name in modules_of(each)))

    def modules_of(self, target_set: str | None) -> tuple[str, ...]:
        """The modules that a trial adapts, by the set that it was searched with; None where sets are not searched.

        Raises:
            StorageError: where it is no set. Those of study files were looked at before; a storage may hold anything.
        """
        if target_set is None:
            return self.model.target_modules
        try:
            return modules_of(target_set)
        except ValueError as error:
            raise StorageError(f"a trial's target modules: {error}") from error

    @property
    def points_of_rank(self) -> int:
        """Points that every rank gets in the design, over all sets of target modules."""
        return self.search.points_per_rank * len(self.space.target_modules or (None,))

    @property
    def design_size(self) -> int:
        """Points of the design, of a study that was never extended."""
        return self.points_of_rank * len(self.search_space().r)

    def search_space(self) -> SearchSpace:
        """The ladders, with defaults filled in."""
        wall, space = self.model.max_lora_rank, self.space
        return SearchSpace(
            max_lora_rank=wall,
            r=default_ladder(self.model.highest_r, rungs=5) if space.r is None else space.r,
            alpha=default_ladder(wall, rungs=3) if space.alpha is None else space.alpha,
            learning_rate=space.learning_rate,
            use_rslora=space.use_rslora,
            alpha_above_ceiling=space.alpha_above_ceiling,
            alpha_per_r=space.alpha_per_r,
            target_modules=space.target_modules,
        )

    def worker_settings(self, log_folder: Path, *, sources: Mapping[str, str] | None = None) -> WorkerSettings:
        """What a worker is given: everything but the search, with the ceiling rounded up.

        Args:
            log_folder: Where logs, checkpoints and kept adapters go.
            sources: The hashes of the user's own files, where trials may go on from checkpoints.
        """
        return WorkerSettings(
            study=self.study.name,
            model=self.model.model_copy(
                update={"max_lora_rank": self.engine_max_lora_rank, "target_modules": self.target_modules}
            ),
            task=self.task,
            learner=self.learner,
            budget=self.budget,
            run=self.run,
            seed=self.study.seed,
            log_folder=log_folder,
            sources=dict(sources or {}),
            keep_adapters=self.study.keep_adapters,
            guarded_rewards=self.guarded_rewards,
            code_folders=self.code_folders,
            by_value=b"" if self._by_value is None else self._by_value.pickled,
        )

    @property
    def sources_by_value(self) -> Mapping[str, str]:
        """The digests of rewards and data that are functions of a notebook, by what the study calls them."""
        return {} if self._by_value is None else self._by_value.digests

    @property
    def code_folders(self) -> tuple[Path, ...]:
        """Where the user's modules and files are looked for: beside the study file, then in the working folder."""
        return tuple(dict.fromkeys((self._folder.absolute(), Path().absolute())))
