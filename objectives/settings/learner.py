"""The study file's `[learner]` section, one for each learner: what both take, and what only one of them does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Discriminator, Field, Tag, ValidationInfo, model_validator

from objectives.settings.dpo import DpoSettings
from objectives.settings.grpo import SETTLED, Correction, GrpoSettings
from objectives.settings.training import Tracker, TrlOptimizer

CPU_SLOTS = 4
"""Trials that a pack runs at once on a CPU, unless the study names another number."""
MOST_SLOTS = 64
"""The most trials that a pack may run at once."""
WRITTEN = {"written": True}
"""Validation context of what a person wrote, as against what a version of this project stored."""
OPERATIONAL: Mapping[str, str] = {"pack_size": "packed", "report_to": "trl"}
"""Keys that only one learner takes, and that say nothing about what is trained; and which learner that is."""


class PackedSettings(GrpoSettings):
    """GRPO for several trials at once, on one frozen base with one engine, each with an adapter of its own."""

    name: Literal["packed"]
    """The learner: `packed`."""

    pack_size: int | None = Field(default=None, ge=1, le=MOST_SLOTS)
    """Trials that run at once. Default: as many as there is memory for, at most 8 on a GPU and 4 on a CPU, and no more
    than there are trials per rank."""

    optim: Literal["adamw_torch"] = "adamw_torch"
    """The optimizer: the packed learner has AdamW of its own, and no other."""

    importance_sampling_correction: Correction = "none"
    """Correction for the engine and the trainer disagreeing on log-probabilities, as TRL names them."""

    # What asks any learner for its trackers finds none.
    report_to: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_only_trl_takes(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        # Before Pydantic looks, which could not say which learner has it.
        optim = given.get("optim", "adamw_torch")
        if optim != "adamw_torch" and optim in get_args(TrlOptimizer):
            raise ValueError(
                f"optim={optim!r} needs name = 'trl': the packed learner has AdamW of its own; allowed: 'adamw_torch'"
            )
        return _without(given, "report_to", needs="name = 'trl': the trackers are TRL's")

    @model_validator(mode="after")
    def _check_bnpo(self) -> PackedSettings:
        if self.loss_type == "bnpo" and self.micro_batch_size is not None:
            raise ValueError(
                f"loss_type='bnpo' with micro_batch_size={self.micro_batch_size} needs name = 'trl': it averages "
                "within micro-batches, whose members TRL draws; allowed: no micro_batch_size, or loss_type='dapo'"
            )
        return self

    @model_validator(mode="after")
    def _check_correction(self) -> PackedSettings:
        correction = self.importance_sampling_correction
        if self.algorithm == "rloo" and correction != "none":
            raise ValueError(
                f"importance_sampling_correction={correction!r} with algorithm='rloo', which has none; allowed: 'none'"
            )
        return self

    @property
    def slots(self) -> int:
        """Trials that run at once. A pack whose size nobody has chosen yet has that of one on a CPU."""
        return self.pack_size or CPU_SLOTS


class TrlSettings(GrpoSettings):
    """GRPO by TRL's GRPOTrainer, one trial at a time."""

    name: Literal["trl"] = "trl"
    """The learner: `trl`, also where the section has no name."""

    algorithm: Literal["grpo"] = "grpo"
    """A completion's reward is compared with its group's mean. Others are of `packed` alone: TRL's RLOOTrainer takes no
    rollouts from elsewhere."""

    optim: TrlOptimizer = "adamw_torch"
    """The optimizer, as Transformers names it. 8-bit and paged ones are bitsandbytes'."""

    report_to: tuple[Tracker, ...] = ()
    """Trackers that TRL reports each step to, one run per trial, named study/trial/seed. You install their packages
    and set their environment variables."""

    importance_sampling_correction: Literal["none"] = "none"
    """TRL corrects in its own vLLM modes only, and these rollouts are handed to it."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_only_packs_take(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, dict):
            return given
        if not info.context:
            # Earlier versions let a TRL study name a pack_size, which nothing read: those stored so must still load.
            given = {key: value for key, value in given.items() if key != "pack_size"}
        algorithm = given.get("algorithm", "grpo")
        if algorithm in SETTLED and algorithm != "grpo":
            raise ValueError(
                f"algorithm={algorithm!r} needs name = 'packed': TRL's GRPOTrainer does not have it; allowed: 'grpo'"
            )
        correction = given.get("importance_sampling_correction", "none")
        if correction != "none" and correction in get_args(Correction):
            raise ValueError(
                f"importance_sampling_correction={correction!r} needs name = 'packed': TRL corrects in its own vLLM "
                "modes only; allowed: 'none'"
            )
        return _without(given, "pack_size", needs="name = 'packed': TRL trains one trial at a time")

    @property
    def slots(self) -> int:
        """Trials that run at once."""
        return 1


def _without(given: dict[str, Any], key: str, *, needs: str) -> dict[str, Any]:
    """The section without a key that only the other learner takes.

    Studies of earlier versions are stored with the keys of both learners, so one that asks for nothing is left out.

    Raises:
        ValueError: where it asks for something.
    """
    if given.get(key) not in (None, (), []):
        raise ValueError(f"{key}={given[key]!r} needs {needs}")
    return {name: value for name, value in given.items() if name != key}


def _name(content: Any) -> str | None:
    """Which settings a `[learner]` section is read as. One without a name is TRL's."""
    name = content.get("name", "trl") if isinstance(content, dict) else getattr(content, "name", None)
    return name if isinstance(name, str) else None


LEARNER_NAMES = ("packed", "trl", "dpo")
LearnerSettings = Annotated[
    Annotated[PackedSettings, Tag("packed")] | Annotated[TrlSettings, Tag("trl")] | Annotated[DpoSettings, Tag("dpo")],
    Discriminator(
        _name,
        custom_error_type="learner_name",
        custom_error_message="name is no learner; allowed: " + ", ".join(LEARNER_NAMES),
    ),
]
"""Any `[learner]` section; its `name` says which."""
