"""What the tests of `sweep init` share: a notebook in pieces, and what was made of it."""

import json
import tomllib
import types

from sweep.init.convert import convert
from sweep.study.reading import parse_study

LOAD = """
from unsloth import FastLanguageModel
max_seq_length = 1024
lora_rank = 32
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name = "someone/some-model",
    max_seq_length = max_seq_length,
    load_in_4bit = True,
    fast_inference = True,
    max_lora_rank = lora_rank,
    gpu_memory_utilization = 0.9,
)
model = FastLanguageModel.get_peft_model(
    model,
    r = lora_rank,
    target_modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    lora_alpha = lora_rank * 2,
    use_gradient_checkpointing = "unsloth",
    random_state = 3407,
)
"""
DATA = """
from datasets import Dataset
dataset = Dataset.from_list([{"prompt": f"{i} + {i}?", "answer": str(2 * i)} for i in range(6)])
"""
REWARD = """
def right(completions, answer, **kwargs):
    return [2.0 if a in c else -1.0 for c, a in zip(completions, answer)]
"""
TRAIN = """
from trl import GRPOConfig, GRPOTrainer
training_args = GRPOConfig(
    learning_rate = 5e-6,
    lr_scheduler_type = "cosine",
    per_device_train_batch_size = 1,
    gradient_accumulation_steps = 4,
    num_generations = 4,
    max_prompt_length = 256,
    max_completion_length = max_seq_length - 256,
    max_steps = 250,
    max_grad_norm = 0.1,
    output_dir = "outputs",
)
trainer = GRPOTrainer(
    model = model, processing_class = tokenizer, reward_funcs = [right], args = training_args, train_dataset = dataset,
)
trainer.train()
"""


def converter(folder):
    """Converts cells as a notebook, or one text as a script."""

    def convert_it(*cells, name="mine.ipynb"):
        path = folder / name
        if path.suffix == ".ipynb":
            content = {"cells": [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]}
            path.write_text(json.dumps(content))
        else:
            path.write_text("\n".join(cells))
        return convert(path)

    return convert_it


def study_of(made):
    content = tomllib.loads(made.files["study.toml"])
    parse_study(content, source="study.toml")
    return content


def task_of(made, **given):
    """The module that was made, run."""
    module = types.ModuleType("task")
    module.__dict__.update(given)
    exec(compile(made.files["task.py"], "task.py", "exec"), module.__dict__)
    return module
