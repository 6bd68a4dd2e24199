"""Study files: what a user may choose, read from TOML, overridden on the command line, and checked first."""

from __future__ import annotations

import difflib
import importlib.resources
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from objectives.settings.learner import LearnerSettings
from objectives.settings.sections import BudgetSettings, ModelSettings, WorkerSettings
from objectives.settings.tasks import Section, TaskSettings
from sweep.errors import StudyFileError
from sweep.study.ceilings import engine_ceiling
from sweep.study.space import SearchSpace, default_ladder

ELSEWHERE = {
    "lr": "learning_rate",
    "rank": "r",
    "lora_rank": "r",
    "lora_alpha": "alpha",
    "max_steps": "steps",
    "num_generations": "group_size",
    "max_completion_length": "max_completion_tokens",
    "model_name": "name",
    "stop_strings": "stop",
    "lr_scheduler_kwargs": "min_lr_rate",
    "epsilon_low": "epsilon",
}
"""What keys are called in TRL, PEFT and Unsloth, for whoever writes them here."""


EITHER = (("verdict", ("keep", "tolerance")), ("space", ("alpha", "alpha_per_r")))
"""Keys of a section that say one thing in two ways."""


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
    """The ladders to search. Each is in ascending order."""

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
    """Points that every rank gets in the design, so that all ranks are tuned alike."""

    collapse_patience: int = Field(default=5, ge=1)
    """Steps in a row without signal, at a reward far below the base policy's, after which a trial has collapsed and
    ends."""

    pruner: Literal["none", "successive_halving", "hyperband"] = "none"
    """Who may end trials of TPE's early, by their training reward after a quarter and a half of the budget: nobody,
    or Optuna's pruner of that name. It saves time, and discards ranks that learn late. The design is never pruned."""


class VerdictSection(Section):
    """What counts as an answer. Declared before the search: changing it afterwards is refused."""

    keep: float | None = Field(default=0.85, gt=0, lt=1)
    """The share of the best rank's gain over the base policy that a rank has to keep to be as good."""

    tolerance: float | None = Field(default=None, gt=0)
    """Instead of `keep`: how far below the best rank's mean held-out reward a rank may lie, in units of the reward."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of the verdict: the chance of calling a too-small rank good enough is at most the rest."""

    collapse_limit: float = Field(default=0.35, gt=0, le=1)
    """The highest share of collapsing trials that is acceptable. It must be shown, which takes seeds."""

    seeds: int = Field(default=10, ge=2)
    """Confirmation seeds that every rank gets, the same for all."""

    looks: int = Field(default=2, ge=1)
    """How often the verdict may be asked for while seeds are added. Each look has its share of the error."""

    @model_validator(mode="before")
    @classmethod
    def _one_way_to_say_it(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        keep, tolerance = given.get("keep"), given.get("tolerance")
        if keep is not None and tolerance is not None:
            raise ValueError(f"keep={keep} and tolerance={tolerance} say one thing in two ways; allowed: one of them")
        rest = {key: value for key, value in given.items() if key not in ("keep", "tolerance")}
        if tolerance is not None:
            return {**rest, "keep": None, "tolerance": tolerance}
        return rest if keep is None else {**rest, "keep": keep}


class StudyFile(Section):
    """A whole study file."""

    study: StudySection
    model: ModelSettings
    space: SpaceSection
    task: TaskSettings
    learner: LearnerSettings = LearnerSettings()
    budget: BudgetSettings
    search: SearchSection = SearchSection()
    verdict: VerdictSection = VerdictSection()
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _check(self) -> StudyFile:
        engine_ceiling(self.model.max_lora_rank)
        choices = self.search_space().settings_per_rank
        if self.search.points_per_rank > choices:
            raise ValueError(
                f"search.points_per_rank={self.search.points_per_rank} exceeds the {choices} combinations of "
                f"the other ladders; allowed: 1 to {choices}"
            )
        self.worker_settings(Path())
        return self

    @property
    def engine_max_lora_rank(self) -> int:
        """The ceiling the engine is given: `model.max_lora_rank`, rounded up to a value that vLLM permits."""
        return engine_ceiling(self.model.max_lora_rank)

    def search_space(self) -> SearchSpace:
        """The ladders, with defaults filled in."""
        wall, space = self.model.max_lora_rank, self.space
        return SearchSpace(
            max_lora_rank=wall,
            r=default_ladder(wall, rungs=5) if space.r is None else space.r,
            alpha=default_ladder(wall, rungs=3) if space.alpha is None else space.alpha,
            learning_rate=space.learning_rate,
            use_rslora=space.use_rslora,
            alpha_above_ceiling=space.alpha_above_ceiling,
            alpha_per_r=space.alpha_per_r,
        )

    def worker_settings(self, log_folder: Path) -> WorkerSettings:
        """What a worker is given: everything but the search, with the ceiling rounded up."""
        return WorkerSettings(
            study=self.study.name,
            model=self.model.model_copy(update={"max_lora_rank": self.engine_max_lora_rank}),
            task=self.task,
            learner=self.learner,
            budget=self.budget,
            seed=self.study.seed,
            log_folder=log_folder,
            keep_adapters=self.study.keep_adapters,
            code_folders=self.code_folders,
        )

    @property
    def code_folders(self) -> tuple[Path, ...]:
        """Where the user's modules and files are looked for: beside the study file, then in the working folder."""
        return tuple(dict.fromkeys((self._folder.absolute(), Path().absolute())))


def shipped_studies() -> dict[str, Path]:
    """The study files that come with the project, by name."""
    folder = Path(str(importlib.resources.files("studies")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_study(name_or_path: str) -> Path:
    """A study file by its path, or a shipped one by its name.

    Raises:
        StudyFileError: where there is neither.
    """
    shipped = shipped_studies()
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    # A name that no file can have is no file.
    with suppress(OSError, ValueError):
        if path.suffix == ".toml" and path.is_file():
            return path
    near = difflib.get_close_matches(name_or_path, shipped, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise StudyFileError(
        f"no study {name_or_path!r}; {hint}allowed: a path to a .toml file, or one of {', '.join(shipped)}"
    )


def load_study(name_or_path: str, overrides: list[str] | None = None) -> StudyFile:
    """Reads and checks a study.

    Args:
        name_or_path: A shipped study's name or a file's path.
        overrides: `section.key=value` each, the value in TOML, or a bare word for a string.

    Raises:
        StudyFileError: with everything that is wrong, one line each.
    """
    path = find_study(name_or_path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StudyFileError(f"{path}: cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise StudyFileError(f"{path}: not TOML: {error}") from error
    _make_way(content, overrides or [])
    for override in overrides or []:
        apply_override(content, override)
    study = parse_study(content, source=str(path))
    study._folder = path.parent
    return study


def parse_study(content: dict[str, Any], *, source: str) -> StudyFile:
    """Checks a study's content.

    Raises:
        StudyFileError: with everything that is wrong, one line each.
    """
    try:
        return StudyFile.model_validate(content)
    except ValidationError as error:
        lines = [_explain(problem, content) for problem in error.errors()]
        raise StudyFileError("\n".join(f"{source}: {line}" for line in dict.fromkeys(lines))) from error
    except (StudyFileError, RecursionError) as error:
        raise StudyFileError(f"{source}: {error}") from error


def _make_way(content: dict[str, Any], overrides: list[str]) -> None:
    """Takes the file's way to say a thing out, where the command line says it in the other way."""
    given = {override.partition("=")[0].strip() for override in overrides}
    for section, keys in EITHER:
        said = [key for key in keys if f"{section}.{key}" in given]
        table = content.get(section)
        if len(said) == 1 and isinstance(table, dict):
            for key in set(keys) - set(said):
                table.pop(key, None)


def apply_override(content: dict[str, Any], override: str) -> None:
    """Sets one key of a study's content.

    Raises:
        StudyFileError: where the override is not `section.key=value`.
    """
    target, equals, text = override.partition("=")
    section, dot, key = target.strip().partition(".")
    if not (equals and dot and section and key and text.strip()):
        raise StudyFileError(f"--set {override!r}; allowed: section.key=value, as in budget.steps=40")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    table = content.setdefault(section, {})
    if not isinstance(table, dict):
        raise StudyFileError(f"--set {override!r}: {section} is not a section")
    table[key] = value


def _explain(problem: Any, content: dict[str, Any]) -> str:
    """One line for one problem: where, what is wrong, the value, what is allowed."""
    where = [str(part) for part in problem["loc"] if not str(part).startswith("function-")]
    name = ".".join(where)
    if problem["type"] == "extra_forbidden":
        allowed = _allowed_keys(where[:-1])
        ours = ELSEWHERE.get(where[-1])
        near = [ours] if ours in allowed else difflib.get_close_matches(where[-1], allowed, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{name}: unknown key; {hint}allowed: {', '.join(allowed)}"
    if problem["type"] == "task_name":
        given = content["task"].get("name") if isinstance(content.get("task"), dict) else content.get("task")
        return f"task.{problem['msg']} (given: {given!r})"
    if problem["type"] == "missing":
        return f"{name}: missing; it must be given"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    shown = "" if isinstance(value, dict) else f" (given: {value!r})"
    return f"{name}: {message}{shown}" if name else message


def _allowed_keys(section: list[str]) -> list[str]:
    """The keys that a section may hold."""
    model: Any = StudyFile
    for part in section:
        field = model.model_fields.get(part)
        model = None if field is None else field.annotation
        if not (isinstance(model, type) and issubclass(model, Section)):
            return []
    return list(model.model_fields)
