"""What `run` and `confirm` do alike before a worker starts, and what they print of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweep.planning.number_format import device_here, settle_dtype
from sweep.planning.pack import sized_pack
from sweep.planning.preflight import check_device, check_generator, check_study
from sweep.study.file import StudyFile, load_study
from sweep.study.pruners import pruner_warning

if TYPE_CHECKING:
    import optuna
    from rich.console import Console


def checked_study(study: str, overrides: list[str]) -> StudyFile:
    """Reads a study, and checks everything that it names and this machine.

    Raises:
        StudyFileError: naming the first thing that is wrong.
    """
    config = load_study(study, overrides)
    check_study(config)
    check_device(config)
    check_generator(config)
    return config


def as_run_here(config: StudyFile, stored: optuna.Study | None) -> StudyFile:
    """The study with what was left open settled for this machine: its number format and the size of a pack.

    Raises:
        StudyMismatchError: where it was begun in a number format that this machine does not compute in.
    """
    return sized_pack(settle_dtype(config, stored, device_here()))


def say_what_is_settled(config: StudyFile, console: Console) -> None:
    """Prints what a reader might not expect."""
    if config.engine_max_lora_rank != config.model.max_lora_rank:
        console.print(
            f"max_lora_rank {config.model.max_lora_rank} is rounded up to {config.engine_max_lora_rank} for the "
            "engine: vLLM permits no value between. The search stays at or below what you asked for.",
            highlight=False,
        )
    if config.learner.name == "packed":
        at_once = "1 trial at a time" if config.learner.slots == 1 else f"{config.learner.slots} trials at once"
        console.print(f"packed: {at_once}; `sweep plan` says why", markup=False)
    if warning := pruner_warning(config.search.pruner):
        console.print(warning, style="yellow", highlight=False)
