"""The two calls to paste for a verdict, and what the lower ceiling saves."""

from __future__ import annotations

import json
from dataclasses import dataclass

from objectives.errors import TrialError
from objectives.memory.config_files import find_config
from objectives.memory.exact import engine_memory
from objectives.memory.shape import read_shape
from objectives.settings.dpo import DpoSettings
from objectives.settings.learner import LearnerSettings
from objectives.settings.sections import ModelSettings
from sweep.confirmation.outcome import Confirmed
from sweep.study.file import StudyFile
from sweep.text import size


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerCeiling:
    """What the engine reserves for an adapter at the ceiling that a rank needs, and at the study's; in bytes."""

    needed: int
    """The smallest `max_lora_rank` that vLLM permits for the rank."""
    now: int
    """The study's."""
    bytes_needed: int
    bytes_now: int


def paste_verdict(config: StudyFile, confirmed: Confirmed) -> str:
    """The calls for the verdict's configuration; empty where it names none."""
    found = confirmed.answer
    if found is None:
        return ""
    return paste_calls(
        config, r=found.r, alpha=int(found.alpha), target_modules=found.target_modules, use_rslora=found.use_rslora
    )


def paste_calls(
    config: StudyFile, *, r: int, alpha: int, target_modules: str | None = None, use_rslora: bool | None = None
) -> str:
    """`from_pretrained` at the ceiling that r needs, and `get_peft_model`; and the objective, where it is another.

    Args:
        config: The study.
        r: The rank.
        alpha: Of the adapter.
        target_modules: The set that was chosen, where sets were searched.
        use_rslora: The scaling that was chosen, where both were searched.
    """
    model = config.model
    modules = ", ".join(map(json.dumps, config.modules_of(target_modules)))
    rslora = config.space.use_rslora[0] if use_rslora is None else use_rslora
    shipped = model.name.startswith("shipped/")
    first = f"  # with {model.adapter} merged into it first: merge_and_unload of PEFT" if model.adapter else ""
    place = "  # a folder of rank-sweep's: objectives/models/" + model.name.removeprefix("shipped/")
    whose = first or place * shipped
    return f"""\
from unsloth import FastLanguageModel

model, tokenizer = FastLanguageModel.from_pretrained(
    model_name={json.dumps(model.name)},{whose}
    max_seq_length={model.max_seq_length},
    load_in_4bit={model.load_in_4bit},
    fast_inference={config.task.samples and not model.changes_base},
    max_lora_rank={config.ceiling_for(r)},
    gpu_memory_utilization={model.gpu_memory_utilization},
)
model = FastLanguageModel.get_peft_model(
    model,
    r={r},
    lora_alpha={alpha},
    target_modules=[{modules}],
    lora_dropout={model.lora_dropout:g},
    bias="none",
    use_gradient_checkpointing={checkpointing_argument(model)},
    use_rslora={rslora},{_initialisation(model)}
){_objective(config.learner)}"""


def _initialisation(model: ModelSettings) -> str:
    """An argument where the adapter does not begin at zero, and what comes of that; else empty."""
    if not model.changes_base:
        return ""
    return f"""
    init_lora_weights={json.dumps(model.init_lora_weights)},  # it changes the base, which an engine of Unsloth's shares
    # To be served, save it with path_initial_model_for_weight_conversion, of PEFT: an adapter of rank 2 r."""


def _objective(learner: LearnerSettings) -> str:
    """A comment: what GRPOConfig is to be given besides; empty for GRPO with a ratio of each token."""
    if isinstance(learner, DpoSettings):
        return f"\n# The study trained with TRL's DPOTrainer: {learner.objective}."
    if learner.algorithm != "grpo":
        where = "in TRL that is RLOOTrainer, not GRPOTrainer" if learner.algorithm == "rloo" else "TRL does not have it"
        return f"\n# The study trained by {learner.loss}; {where}."
    given: dict[str, object] = {}
    if learner.loss_type == "cispo":
        given |= {"loss_type": "cispo", "epsilon_high": learner.clip_above}
    if learner.importance_sampling_level != "token":
        given |= {"loss_type": learner.loss_type, "importance_sampling_level": learner.importance_sampling_level}
    if learner.entropy_coef:
        given["entropy_coef"] = learner.entropy_coef
    arguments = ", ".join(f"{name}={json.dumps(value)}" for name, value in given.items())
    return f"\n# The study trained with these arguments of TRL's GRPOConfig: {arguments}" if given else ""


def ceiling_saving(config: StudyFile, *, r: int) -> str:
    """What the engine reserves at the ceiling that r needs, against the study's; empty where it is not known."""
    lower = lower_ceiling(config, r=r)
    if lower is None:
        return ""
    if lower.needed == lower.now:
        return f"r={r} needs the ceiling that the study had: {size(lower.bytes_now)} of adapter memory."
    return (
        f"max_lora_rank {lower.needed} instead of {lower.now} lowers what the engine reserves for an adapter from "
        f"{size(lower.bytes_now)} to {size(lower.bytes_needed)}: {size(lower.bytes_now - lower.bytes_needed)} less."
    )


def lower_ceiling(config: StudyFile, *, r: int) -> LowerCeiling | None:
    """The ceiling that r needs against the study's; None where memory is not known."""
    needed, now = config.ceiling_for(r), config.engine_max_lora_rank
    bytes_needed, bytes_now = (adapter_bytes(config.model, ceiling) for ceiling in (needed, now))
    if bytes_needed is None or bytes_now is None:
        return None
    return LowerCeiling(needed=needed, now=now, bytes_needed=bytes_needed, bytes_now=bytes_now)


def adapter_bytes(model: ModelSettings, ceiling: int) -> int | None:
    """What the engine that the calls start reserves for one adapter.

    None where the model's config.json is not on this machine, or memory cannot be planned for it.
    """
    try:
        shape = read_shape(find_config(model.name))
        # Unsloth's engine on a GPU is not restricted to the target modules.
        return engine_memory(shape, max_lora_rank=ceiling, dtype=model.number_format, target_modules=None).bytes
    except TrialError:
        return None


def checkpointing_argument(model: ModelSettings) -> str:
    """What `use_gradient_checkpointing` is given, as source code."""
    return {"unsloth": '"unsloth"', "standard": "True", "off": "False"}[model.gradient_checkpointing]
