"""The two calls to paste for a verdict, and what the lower ceiling saves."""

from __future__ import annotations

import json

from objectives.errors import TrialError
from objectives.memory.config_files import find_config
from objectives.memory.exact import engine_memory
from objectives.memory.shape import read_shape
from objectives.settings.sections import ModelSettings
from sweep.study.ceilings import engine_ceiling
from sweep.study.file import StudyFile
from sweep.text import size


def paste_calls(config: StudyFile, *, r: int, alpha: int) -> str:
    """`from_pretrained` at the ceiling that r needs, and `get_peft_model`."""
    model = config.model
    modules = ", ".join(map(json.dumps, model.target_modules))
    return f"""\
from unsloth import FastLanguageModel

model, tokenizer = FastLanguageModel.from_pretrained(
    model_name={json.dumps(model.path)},
    max_seq_length={model.max_seq_length},
    load_in_4bit={model.load_in_4bit},
    fast_inference=True,
    max_lora_rank={engine_ceiling(r)},
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
    use_rslora={config.space.use_rslora[0]},
)"""


def ceiling_saving(config: StudyFile, *, r: int) -> str:
    """What the engine reserves at the ceiling that r needs, against the study's; empty where it is not known."""
    needed, now = engine_ceiling(r), config.engine_max_lora_rank
    before, after = (adapter_bytes(config.model, ceiling) for ceiling in (now, needed))
    if before is None or after is None:
        return ""
    if needed == now:
        return f"r={r} needs the ceiling that the study had: {size(before)} of adapter memory."
    return (
        f"max_lora_rank {needed} instead of {now} lowers what the engine reserves for an adapter from {size(before)} "
        f"to {size(after)}: {size(before - after)} less."
    )


def adapter_bytes(model: ModelSettings, ceiling: int) -> int | None:
    """What the engine that the calls start reserves for one adapter.

    None where the model's config.json is not on this machine, or memory cannot be planned for it.
    """
    try:
        shape = read_shape(find_config(model.path))
        # Unsloth's engine on a GPU is not restricted to the target modules.
        return engine_memory(shape, max_lora_rank=ceiling, dtype=model.number_format, target_modules=None).bytes
    except TrialError:
        return None


def checkpointing_argument(model: ModelSettings) -> str:
    """What `use_gradient_checkpointing` is given, as source code."""
    return {"unsloth": '"unsloth"', "standard": "True", "off": "False"}[model.gradient_checkpointing]
