"""`sweep plan`."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from sweep.cli.options import JsonOption, PriceOption, SetOption, StudyArgument

DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="GPU",
        help="A GPU by name, such as `T4` or `A100-80`, or by memory, such as `48GiB`. Default: this machine's.",
    ),
]


def plan(
    study: StudyArgument,
    device: DeviceOption = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Run a few steps of one trial, and estimate the study's time from them.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Print every table and setting, instead of one screen.")] = False,
    price: PriceOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer reads the default, nothing changes it
    as_json: JsonOption = False,
) -> None:
    """Plan a study before anything loads: search, memory, what fits, budget, what the verdict can show, settings.

    Adapter memory is exact, from the model's config.json alone; estimates are marked as such. Nothing is stored.

    For a card that it knows, it says how long search and confirmation would take, by the card's data sheet, and with
    `--price` what they would cost: an estimate that nothing has been measured for. `--full` has all cards side by side.

    Memory is left out where the model's config.json is not on this machine, or its family is not known.

    With `--json`, one object: study, model, search (ladders, points_per_rank, design_trials, tpe_trials, trials),
    engine (kind, bytes, max_lora_rank, engine_max_lora_rank, max_loras, dtype, restricted_bytes, unrestricted_bytes,
    textbook_bytes, restricted_modules, unrestricted_modules, ceilings), trainer (one entry per rank), pack (slots,
    reason, fitting, per_slot; null unless trials are packed), estimates, device, fit, time (trial_seconds,
    search_hours, confirmation_hours, search_money, confirmation_money, assumptions; null unless the device is a known
    card that it fits), cards (name, memory_bytes, dtype, fits, lacks, slots, sequences, time), prompts (training,
    held_out, median, p95, longest, limit, left_out, longest_prompt, too_long, in tokens; null where data or tokenizer
    are not here), budget (per_trial, in_all), verdict (keep, tolerance, confidence, seeds, held_out_prompts,
    smallest_gain, widest_spread), notes, settings (key, value, origin) and measured. All memory is in bytes.

    Examples: `sweep plan tiny`, `sweep plan my_study.toml --device L4 --price 0.8`
    """
    from sweep.planning.whole_plan import whole_plan
    from sweep.preflight.checks import check_device
    from sweep.preflight.devices import planned_device
    from sweep.preflight.model import check_weights
    from sweep.preflight.number_format import with_dtype
    from sweep.preflight.placement import device_here
    from sweep.study.reading import find_study, load_study, parse_override, read_toml

    planned_for = planned_device(device)
    declared = load_study(study, overrides)
    overridden = [parse_override(override)[0] for override in overrides]
    planned = whole_plan(declared, read_toml(find_study(study)), overridden, device=planned_for, price=price)
    if measure:
        from rich.console import Console

        from sweep.planning.pack import with_slots
        from sweep.running.calibration import calibrate

        check_weights(declared.model.name, declared.model.path)
        check_device(with_dtype(declared, planned_for))
        with Console(stderr=True).status("running a few steps of one trial"):
            pack = None if planned.memory is None else planned.memory.pack
            here = with_dtype(declared, device_here())
            sized = here if pack is None else with_slots(here, pack.slots)
            planned = dataclasses.replace(planned, measured=calibrate(sized))
    if as_json:
        typer.echo(json.dumps(planned.as_json(), indent=2))
        return
    from rich.console import Console

    from sweep.terminal.plan import full_plan
    from sweep.terminal.plan_summary import plan_summary

    Console(highlight=False).print(full_plan(planned) if full else plan_summary(planned))
