"""What each of the common cards would do with a study: whether it fits, how many slots, how long it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from objectives.memory.footprint import fit
from objectives.memory.shape import ModelShape
from sweep.planning.pack import plan_pack, study_footprint, with_slots
from sweep.planning.roofline import TimeEstimate, estimate_time
from sweep.preflight.cards import CARDS, WITHOUT_KERNELS
from sweep.preflight.devices import Device, named_device
from sweep.preflight.number_format import with_dtype
from sweep.preflight.placement import place
from sweep.study.file import StudyFile


@dataclass(frozen=True, slots=True, kw_only=True)
class CardPlan:
    """One card, and one worker on it."""

    device: Device
    dtype: str
    """What `model.dtype` comes to there."""
    slots: int
    """Trials at once; 1 unless they are packed."""
    sequences: int
    """Of full length that the engine's cache holds at once; 0 where nothing is sampled."""
    lacks: str
    """Why the study does not run there; empty where it does."""
    time: TimeEstimate | None

    def as_json(self) -> dict[str, Any]:
        """Its part of what `sweep plan --json` prints."""
        return {
            "name": self.device.name,
            "memory_bytes": self.device.memory_bytes,
            "dtype": self.dtype,
            "fits": not self.lacks,
            "lacks": self.lacks,
            "slots": self.slots,
            "sequences": self.sequences,
            "time": None if self.time is None else self.time.as_json(),
        }


def plan_cards(
    declared: StudyFile, shape: ModelShape, *, prompt_tokens: int | None, price: float | None
) -> tuple[CardPlan, ...]:
    """Plans the study for every card of the table.

    Args:
        declared: The study, with what it leaves open.
        shape: Of its base model.
        prompt_tokens: The median prompt's; None where it is not known.
        price: Money per device hour.

    Raises:
        ModelConfigError: where a target module is not in the model.
    """
    return tuple(
        plan_card(declared, shape, named_device(name), workers=1, prompt_tokens=prompt_tokens, price=price)
        for name in CARDS
    )


def plan_card(
    declared: StudyFile,
    shape: ModelShape,
    device: Device,
    *,
    workers: int,
    prompt_tokens: int | None,
    price: float | None,
) -> CardPlan:
    """The same for one card, or for as many as there are workers.

    Raises:
        ModelConfigError: where a target module is not in the model.
    """
    config = with_dtype(declared, device)
    if config.learner.name == "packed":
        config = with_slots(config, plan_pack(config, shape, device).slots)
    held = study_footprint(config, shape, device)
    room = fit(held, config.model, memory_bytes=device.memory_bytes)
    lacks = place(config, device).unpackable or room.reason
    if config.model.dtype == "bfloat16" and not device.bfloat16:
        lacks = lacks or "no bfloat16"
    if WITHOUT_KERNELS.search(device.name):
        lacks = lacks or "no kernels"
    time = None
    if not lacks and device.card is not None:
        time = estimate_time(
            config, shape=shape, card=device.card, held=held, fit=room, workers=workers, prompt_tokens=prompt_tokens,
            price=price,
        )  # fmt: skip
    return CardPlan(
        device=device,
        dtype=config.model.number_format,
        slots=config.learner.slots,
        sequences=room.sequences,
        lacks=lacks,
        time=time,
    )
