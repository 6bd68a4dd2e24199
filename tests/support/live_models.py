"""A program of its own: starts real engines and trainers, and prints what they allocated as JSON.

Called by test_memory.py with a folder that holds a model a family. In one process, so that vLLM is imported once.
"""

import json
import os
import sys
from pathlib import Path

os.environ.update(
    OMP_WAIT_POLICY="passive",
    HF_HUB_OFFLINE="1",
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_NO_USAGE_STATS="1",
    VLLM_LOGGING_LEVEL="ERROR",
)

import bitsandbytes
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM
from vllm import LLM

from objectives.engines.vllm import VllmEngine
from objectives.lora import TARGET_MODULES
from objectives.settings.sections import ModelSettings

TOKENS = 64


def stacks(llm):
    """Bytes of every adapter stack in a live engine, by module; storage that two tensors share counts once."""
    model = llm.llm_engine.model_executor.driver_worker.worker.model_runner.model
    seen, found = set(), {}
    for name, module in model.named_modules():
        for attribute in ("lora_a_stacked", "lora_b_stacked"):
            tensors = getattr(module, attribute, ())
            for tensor in tensors if isinstance(tensors, tuple) else (tensors,):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in seen:
                    seen.add(storage.data_ptr())
                    kind = name.rpartition(".")[-1]
                    found[kind] = found.get(kind, 0) + storage.nbytes()
    return found


def close(llm):
    """Ends an engine, so that the next one starts in a clean process."""
    llm.llm_engine.engine_core.shutdown()


def engine(folder, case):
    """What a vLLM engine reserves that is restricted to the case's target modules, or not."""
    llm = LLM(
        model=str(folder / case["family"]),
        hf_overrides={"tie_word_embeddings": case["tied"]},
        dtype=case["dtype"],
        load_format="dummy",
        skip_tokenizer_init=True,
        enable_lora=True,
        max_lora_rank=case["max_lora_rank"],
        max_loras=case["max_loras"],
        lora_target_modules=case["target_modules"],
        max_model_len=32,
        max_num_seqs=4,
        max_num_batched_tokens=64,
        enforce_eager=True,
        disable_log_stats=True,
    )
    found = stacks(llm)
    close(llm)
    return found


def own_engine():
    """What this project's own engine reserves for the shipped policy."""
    settings = ModelSettings(
        name="shipped/tiny", max_lora_rank=64, dtype="float32", max_seq_length=64, gpu_memory_utilization=0.1
    )
    own = VllmEngine.start(settings, max_lora_rank=64, max_loras=4, max_num_seqs=4)
    found = stacks(own._llm)
    own.close()
    return found


def parameters(folder):
    """How many parameters Transformers gives a model."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    return sum(parameter.numel() for parameter in model.parameters())


def trained(folder, *, dtype, gradients=True):
    """Bytes of adapter, gradients and moments after one step, and of what a forward pass keeps for the backward."""
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=dtype)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=list(TARGET_MODULES)))
    held = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(torch.zeros(1, TOKENS, dtype=torch.long), use_cache=False).logits
    kept = sum(n_bytes for n_bytes, _ in saved.values())
    adapter = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(adapter)
    logits.float().sum().backward()
    optimizer.step()
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    return {
        "parameters": sum(parameter.numel() for parameter in adapter),
        "adapter_bytes": sum(parameter.nbytes for parameter in adapter),
        "gradient_bytes": sum(parameter.grad.nbytes for parameter in adapter),
        "optimizer_bytes": sum(moment.nbytes for moment in moments),
        "kept_bytes": kept,
    }


def four_bit():
    """Bytes of a million weights in bitsandbytes' NF4 format, scales included."""
    packed, state = bitsandbytes.functional.quantize_4bit(
        torch.randn(1024, 1024), quant_type="nf4", compress_statistics=True
    )
    return packed.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes


def main():
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text())
    families = request["families"]
    answer = {
        "engines": [engine(folder, case) for case in request["engines"]],
        "own": own_engine(),
        "four_bit": four_bit(),
        "parameters": {name: parameters(folder / name) for name in [*families, *request["variants"]]},
        "trained": {
            name: {dtype: trained(folder / name, dtype=getattr(torch, dtype)) for dtype in ("float32", "bfloat16")}
            for name in families
        },
    }
    (folder / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
