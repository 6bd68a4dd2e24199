"""All that can be said of a study before anything loads: its own plan, its prompts, and what its verdict can show."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any

from sweep.planning.cards import plan_card, plan_cards
from sweep.planning.notes import time_note
from sweep.planning.study_plan import StudyPlan, plan_study
from sweep.planning.verdict import plan_verdict
from sweep.preflight.checks import check_study
from sweep.preflight.devices import Device
from sweep.preflight.number_format import with_dtype
from sweep.study.file import StudyFile
from sweep.study.provenance import settings_in_force


def whole_plan(
    declared: StudyFile,
    content: Mapping[str, Any],
    overridden: Container[str],
    *,
    device: Device | None,
    price: float | None = None,
) -> StudyPlan:
    """Plans a study and checks it. What is left open in it is settled for the device.

    Args:
        declared: The study.
        content: What its file holds.
        overridden: The keys that were set besides, each `section.key`.
        device: The GPU to plan for; None for this machine's processor.
        price: Money per device hour, in any currency.

    Raises:
        StudyFileError: naming the first thing that is wrong.
    """
    config = with_dtype(declared, device)
    planned = plan_study(config, device=device, settings=settings_in_force(config, content, overridden))
    prompts = check_study(config)
    reach = plan_verdict(config, held_out=None if prompts is None else prompts.held_out)
    planned = replace(planned, prompts=prompts, verdict=reach)
    if planned.memory is None:
        return planned
    shape, tokens = planned.memory.model.shape, None if prompts is None else prompts.median
    time, notes = None, planned.notes
    if device is not None:
        time = plan_card(declared, shape, device, workers=planned.workers, prompt_tokens=tokens, price=price).time
        notes = notes if time is None else (*notes, *time_note(time, device))
    cards = plan_cards(declared, shape, prompt_tokens=tokens, price=price)
    return replace(planned, time=time, cards=cards, notes=notes)
