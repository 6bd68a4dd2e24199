"""The study file's `[verdict]` section: what counts as an answer, declared before the search."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from objectives.settings.section import Section


def _of_design(given: dict[str, Any]) -> dict[str, Any]:
    """A verdict's keys with the defaults of its design; looks without one are those of a study that was fixed."""
    design = given.get("design", "fixed" if "looks" in given else "sequential")
    if design == "fixed":
        return {"seeds": 10, "looks": 2, **given, "design": design}
    if given.get("looks", 1) != 1:
        raise ValueError(f"looks={given['looks']} with design='sequential'; allowed: design='fixed', or no looks")
    return given


def _check_measure(measure: str) -> str:
    if measure in ("completion_tokens", "cut") or measure.removeprefix("reward:") not in ("", measure):
        return measure
    raise ValueError("names no measure; allowed: reward:NAME, completion_tokens, cut")


class GuardSection(Section):
    """A second measure, on which a smaller rank may not be much worse than the one that the search favours."""

    measure: Annotated[str, AfterValidator(_check_measure)]
    """What is measured on held-out completions: `reward:NAME`, the mean of one reward function; `completion_tokens`,
    their mean length; `cut`, the share of them that are cut at the longest length. A reward is worse when it is lower,
    the others when they are higher."""

    worse_by: float = Field(gt=0)
    """How much worse it may be, in the measure's own units; of `cut`, a share below 1."""

    @model_validator(mode="after")
    def _check_share(self) -> Self:
        if self.measure == "cut" and self.worse_by >= 1:
            raise ValueError(f"worse_by={self.worse_by:g} of measure='cut' allows every share; allowed: below 1")
        return self


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

    design: Literal["sequential", "fixed"] = "sequential"
    """Whether confirmation adds seeds one by one and stops when the verdict is settled, or runs all of them."""

    seeds: int = Field(default=14, ge=2)
    """Confirmation seeds of a rank, the same for all: at most so many, or under `fixed` (default 10) exactly."""

    looks: int = Field(default=1, ge=1)
    """Under `fixed` (default 2), how often the verdict may be asked for while seeds are added, each for its share of
    the error. Otherwise every seed is a look."""

    guards: tuple[GuardSection, ...] = ()
    """Measures besides the score that a smaller rank has to pass, each as a table of its own, `[[verdict.guards]]`."""

    @field_validator("guards")
    @classmethod
    def _check_guards(cls, guards: tuple[GuardSection, ...]) -> tuple[GuardSection, ...]:
        measures = [guard.measure for guard in guards]
        if twice := [measure for measure in measures if measures.count(measure) > 1]:
            raise ValueError(f"measure={twice[0]!r} has two guards; allowed: one for each measure")
        return guards

    @model_validator(mode="before")
    @classmethod
    def _one_way_to_say_it(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = _of_design(given)
        keep, tolerance = given.get("keep"), given.get("tolerance")
        if keep is not None and tolerance is not None:
            raise ValueError(f"keep={keep} and tolerance={tolerance} say one thing in two ways; allowed: one of them")
        rest = {key: value for key, value in given.items() if key not in ("keep", "tolerance")}
        if tolerance is not None:
            return {**rest, "keep": None, "tolerance": tolerance}
        return rest if keep is None else {**rest, "keep": keep}
