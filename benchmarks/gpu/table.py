"""Results as a Markdown table to paste. What was not measured says why in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.gpu.versions import differences

GIB, MIB = 2**30, 2**20
LONGEST = 100
"""Characters of a failure's line that the table shows."""
BUDGET = 250
"""GRPO steps of a trial of `llama32_1b_gsm8k`, that makespans are worked out for."""
TRIALS = 4
LEARNERS = {
    "trl_unsloth": "TRL + Unsloth",
    "trl_peft": "TRL + PEFT",
    "packed_1": "packed, 1 trial",
    "packed_4": "packed, 4 trials",
    "packed_8": "packed, 8 trials",
}
Results = dict[str, Any]


def markdown(results: Results) -> str:
    """What was measured, on what, and what else should be known, as Markdown."""
    rows = [*_rollouts(results), *_training(results), *_makespan(results), *_equality(results), *_ceilings(results)]
    lines = [_machine(results), "", "| what | measured | beside it |", "| --- | --- | --- |"]
    lines += [f"| {what} | {measured} | {beside} |" for what, measured, beside in rows]
    if warnings := _warnings(results):
        lines += ["", *(f"Warning: {warning}." for warning in warnings)]
    return "\n".join(lines) + "\n"


def shown(outcome: dict[str, Any]) -> str:
    """One part in a line."""
    return f"{outcome['seconds']:.0f} s" + (f"; {outcome['error']}" if "error" in outcome else "")


def _machine(results: Results) -> str:
    found = results.get("versions", {})
    if "result" not in found:
        return f"Card and versions: {_why(found)}"
    facts = found["result"]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{facts['card']}, compute capability {facts['capability']}, driver {facts['driver']}, CUDA {facts['cuda']}; "
        f"{packages}. A random model of Llama 3.2 1B's shape in 16 bits; 64 completions of 256 tokens a step."
    )


def _warnings(results: Results) -> list[str]:
    found = results.get("versions", {}).get("result")
    return [] if found is None else differences(found["packages"])


def _rows(
    results: Results, key: str, what: str, make: Callable[[dict[str, Any]], Iterator[tuple[str, str, str]]]
) -> Iterator[tuple[str, str, str]]:
    """The rows of a part, or one that says why there are none."""
    outcome = results.get(key)
    if outcome is None:
        return
    if "result" in outcome:
        yield from make(outcome["result"])
    else:
        yield what, _why(outcome), ""


def _why(outcome: dict[str, Any]) -> str:
    error = str(outcome.get("error", "not measured")).replace("|", "/")
    return error if len(error) <= LONGEST else f"{error[: LONGEST - 3]}..."


def _rollouts(results: Results) -> Iterator[tuple[str, str, str]]:
    def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        yield "load, PEFT and an engine with room for 8 adapters", f"{found['load_s']:.1f} s", ""
        yield "first rollout", f"{found['first_rollout_s']:.1f} s", f"{found['sequences']} completions"
        alone = found["tokens_per_s"]["1"]
        for adapters, pace in found["tokens_per_s"].items():
            yield (
                f"rollout, {adapters} adapter{'s' * (adapters != '1')} at once",
                f"{pace:,.0f} tokens/s",
                f"{pace / alone:.2f} of one adapter",
            )

    yield from _rows(results, "rollouts", "rollouts", rows)


def _training(results: Results) -> Iterator[tuple[str, str, str]]:
    def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        each, memory = found["step_s"] / found["slots"], found["memory"]
        of_micro_batch = f"{each:.2f} s a trial; micro-batch {found['micro_batch_size']}"
        yield f"step, {title}", f"{found['step_s']:.2f} s", of_micro_batch
        if memory is not None:
            for name, what in (("training", "memory of training"), ("device", "memory of the device")):
                held, planned = memory[f"{name}_bytes"], memory[f"planned_{name}_bytes"]
                yield f"{what}, {title}", f"{held / GIB:.2f} GiB", f"{planned / GIB:.2f} GiB planned"

    for key, title in LEARNERS.items():
        yield from _rows(results, key, f"step, {title}", rows)


def _makespan(results: Results) -> Iterator[tuple[str, str, str]]:
    """Four trials: a process for each, with Unsloth and TRL, over one pack of four."""
    alone, pack = results.get("trl_unsloth", {}), results.get("packed_4", {})
    if "result" not in alone or "result" not in pack:
        return
    steps = pack["result"]["steps"]
    naive, packed = TRIALS * alone["seconds"], pack["seconds"]
    yield (
        f"naive / packed, {TRIALS} trials of {steps} steps",
        f"{naive / packed:.2f}",
        f"{naive:.0f} s / {packed:.0f} s",
    )

    def at_budget(outcome: dict[str, Any]) -> float:
        return float(outcome["seconds"]) + (BUDGET - steps) * float(outcome["result"]["step_s"])

    naive, packed = TRIALS * at_budget(alone), at_budget(pack)
    yield f"the same at {BUDGET} steps, worked out", f"{naive / packed:.2f}", f"{naive:.0f} s / {packed:.0f} s"


def _equality(results: Results) -> Iterator[tuple[str, str, str]]:
    def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        interval = f"95 % interval {found['lower']:+.4f} to {found['upper']:+.4f}"
        yield f"packed - TRL, held-out reward, {len(found['trl'])} seeds", f"{found['mean_difference']:+.4f}", interval

    yield from _rows(results, "equality", "packed - TRL", rows)


def _ceilings(results: Results) -> Iterator[tuple[str, str, str]]:
    def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        actual, planned = found["actual_bytes"] / MIB, found["planned_bytes"] / MIB
        gap = max(turn["mean_logprob_gap"] for turn in found["turns"])
        pace = f"{found['tokens_per_s']:,.0f} tokens/s; log-probabilities within {gap:.3f}"
        yield (
            f"adapter memory at max_lora_rank {found['ceiling']}",
            f"{actual:.2f} MiB",
            f"{planned:.2f} planned; {pace}",
        )

    keys = sorted((key for key in results if key.startswith("ceiling_")), key=lambda key: int(key.split("_")[1]))
    for key in keys:
        yield from _rows(results, key, f"adapter memory at max_lora_rank {key.split('_')[1]}", rows)
