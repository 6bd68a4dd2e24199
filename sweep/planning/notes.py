"""What a plan's reader should not miss."""

from __future__ import annotations

from collections.abc import Iterator

from objectives.memory.footprint import EngineKind, reserves
from sweep.planning.adapters import AdapterPlan
from sweep.planning.roofline import TimeEstimate
from sweep.preflight.cards import WITHOUT_KERNELS
from sweep.preflight.devices import Device
from sweep.preflight.placement import place
from sweep.study.file import StudyFile
from sweep.study.pruners import pruner_warning
from sweep.text import size

PROMPTS_FOR_BINARY = 128
"""From so many held-out prompts on, a verdict at 95 % errs in less than 6 % of studies however skewed the rewards that
were tried are: zeros and ones, with a best rank that is always right (docs/verdict.md)."""


def plan_notes(
    config: StudyFile,
    *,
    device: Device | None,
    engine: EngineKind,
    adapters: AdapterPlan | None,
    completion_tokens: int,
) -> tuple[str, ...]:
    """One sentence each, none for a plan without surprises."""
    return (
        *_search_notes(config),
        *_verdict_notes(config),
        *(() if adapters is None else _ceiling_notes(config, engine, adapters)),
        *_device_notes(config, device),
        *_pack_notes(config, device),
        *_length_notes(config, completion_tokens),
    )


def time_note(time: TimeEstimate, device: Device) -> Iterator[str]:
    """That a study may take more than a day, and what would shorten it, where that is so."""
    if time.takes_days:
        cards = device.name if time.workers == 1 else f"{time.workers} x {device.name}"
        yield f"More than a day on {cards} (estimate): fewer steps, trials or held-out prompts, or more GPUs."


def design_note(config: StudyFile) -> str:
    """That the search ends before every rank has its points; empty where it does not."""
    trials, design = config.search.trials, config.design_size
    if trials >= design:
        return ""
    n, ranks, sets = config.search.points_per_rank, len(config.search_space().r), config.space.target_modules or ()
    product = f" ({n} points x {ranks} ranks x {len(sets)} sets of modules)" if len(sets) > 1 else ""
    return (
        f"search.trials={trials} ends the search within its design of {design}{product}: not every rank will be "
        "tuned alike."
    )


def _search_notes(config: StudyFile) -> Iterator[str]:
    if note := design_note(config):
        yield note
    if warning := pruner_warning(config.search.pruner):
        yield warning
    if len(config.space.learning_rate) < 3:
        yield "space.learning_rate has fewer than three rates: this compares rates as much as ranks."


def _verdict_notes(config: StudyFile) -> Iterator[str]:
    if config.task.held_out_prompts < PROMPTS_FOR_BINARY:
        yield (
            f"task.held_out_prompts={config.task.held_out_prompts} is below {PROMPTS_FOR_BINARY}: where rewards are 0 "
            "or 1 and the best rank is near 1, a verdict at 95 % errs in 6 % of studies or more instead of 5 %."
        )


def _ceiling_notes(config: StudyFile, engine: EngineKind, adapters: AdapterPlan) -> Iterator[str]:
    if not reserves(engine):
        return
    if adapters.max_lora_rank != adapters.engine_max_lora_rank:
        yield (
            f"model.max_lora_rank={adapters.max_lora_rank} costs as much as {adapters.engine_max_lora_rank}: vLLM "
            "allows no value in between."
        )
    space = config.search_space()
    top = space.r[-1]
    enough = next(c.max_lora_rank for c in adapters.ceilings if c.max_lora_rank >= top)
    if enough < adapters.engine_max_lora_rank:
        saved = adapters.bytes_at(adapters.engine_max_lora_rank, engine) - adapters.bytes_at(enough, engine)
        walled = space.alpha_per_r is None and not space.alpha_above_ceiling and space.alpha[-1] > enough
        also = " with space.alpha_above_ceiling=true" if walled else ""
        yield f"r goes up to {top} only: model.max_lora_rank={enough}{also} would serve it and save {size(saved)}."


def _device_notes(config: StudyFile, device: Device | None) -> Iterator[str]:
    if device is not None and not device.bfloat16 and config.model.dtype == "bfloat16":
        yield f"A {device.name} cannot compute in bfloat16: --set model.dtype=float16."
    if device is not None and WITHOUT_KERNELS.search(device.name):
        yield f"torch 2.13 for CUDA 13, which the extra `gpu` brings, has no kernels for a {device.name}."
    if device is None and config.model.device == "gpu":
        yield "This study needs a GPU and none is visible here; name one with --device to plan for it."


def _pack_notes(config: StudyFile, device: Device | None) -> Iterator[str]:
    if reason := place(config, device).unpackable:
        yield f"{reason[0].upper()}{reason[1:]}."
    if config.learner.name == "packed" and config.model.lora_dropout:
        yield (
            f"model.lora_dropout={config.model.lora_dropout:g} has a pack run a group's prompt with every completion: "
            "the completions of a group would share a mask."
        )
    elif config.learner.name == "packed" and config.model.gradient_checkpointing != "off":
        yield (
            f"model.gradient_checkpointing={config.model.gradient_checkpointing} has a pack run a group's prompt with "
            "every completion; `off`, where memory allows it, runs it once."
        )


def _length_notes(config: StudyFile, completion_tokens: int) -> Iterator[str]:
    if config.task.samples and completion_tokens >= config.model.max_seq_length:
        yield (
            f"Completions of {completion_tokens} tokens leave no room for a prompt in "
            f"model.max_seq_length={config.model.max_seq_length}."
        )
