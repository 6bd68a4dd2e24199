"""A child process: what vLLM is started with by Unsloth, for the policy of a study on a card of 24 GB and of 80.

python -m tests.spoofed_cuda.engine MODEL_FOLDER > arguments.json
"""

import os
import sys

from tests.spoofed_cuda import card

card.insert(24)
import objectives.policies.unsloth as policies

import inspect

import unsloth_zoo.vllm_utils
from unsloth.models._block_compile import _region_recompile_limit

from objectives.errors import PolicyError
from objectives.settings.sections import ModelSettings

load_vllm = unsloth_zoo.vllm_utils.load_vllm
started = []


def record(**arguments):
    """Stands where Unsloth starts an engine, and ends the loading there."""
    started.append({name: str(value) for name, value in load_vllm(**arguments, return_args=True).items()})
    raise ValueError("no engine here")


# Unsloth looks there for what it may pass on.
record.__signature__ = inspect.signature(load_vllm)
unsloth_zoo.vllm_utils.load_vllm = record


def load(dtype, sequences):
    """Loads a policy as a worker does; what comes of it."""
    settings = ModelSettings(name=sys.argv[1], max_lora_rank=64, dtype=dtype, max_seq_length=1024)
    try:
        policies.UnslothPolicy(settings, max_lora_rank=64, fast_inference=True, max_num_seqs=sequences)
    except PolicyError as error:
        return str(error)
    raise AssertionError("nothing stopped it")


said = {}
for memory_gib in (24, 80):
    card.insert(memory_gib)
    for sequences in (None, 64, 256, 512):
        refused = load("bfloat16", sequences)
        assert refused.endswith("no engine here"), refused
        said[f"{memory_gib} {sequences}"] = started.pop()
card.answer(
    {
        "started": said,
        "float32": load("float32", 64),
        "usage_statistics": os.environ.get("VLLM_NO_USAGE_STATS"),
        "graphs": _region_recompile_limit(1),
    }
)
