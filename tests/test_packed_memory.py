"""The most bytes that a packed step holds at once, against what the planner says of it."""

import weakref
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.head import random_batch
from objectives.learners.packed.grpo import Objective
from objectives.learners.packed.head import Head
from objectives.learners.packed.linear import pack
from objectives.learners.packed.optimizer import PackedAdamW
from objectives.learners.packed.step import Stepper
from objectives.lora import TARGET_MODULES
from objectives.memory.estimates import training_activation_bytes
from objectives.memory.footprint import Workload, footprint
from objectives.memory.shape import make_shape
from objectives.settings.pack import pack_halves
from objectives.settings.sections import BudgetSettings, ModelSettings
from tests.support.packed import lora, make_pack

SHAPE = {
    "vocab_size": 6000, "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
NARROW = SHAPE | {"vocab_size": 72, "hidden_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2}
"""As the shipped model: adapters weigh more in it than logits."""
SLOTS, GROUP, PROMPT = 2, 4, 16
LLAMA_1B = {
    "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": True,
}  # fmt: skip
"""Of Llama 3.2 1B."""


class LiveBytes(TorchDispatchMode):
    """Adds up the tensors that operations make, until each is freed; those that were there before are left out."""

    def __init__(self, known):
        super().__init__()
        self._live = {tensor.untyped_storage()._cdata: 0 for tensor in known}
        self.most = self._now = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        return made

    def _see(self, storage):
        if storage._cdata not in self._live:
            self._live[storage._cdata] = storage.nbytes()
            self._now += storage.nbytes()
            self.most = max(self.most, self._now)
            weakref.finalize(storage, self._free, storage._cdata)

    def _free(self, key):
        self._now -= self._live.pop(key, 0)


def step_bytes(model, objective, *, r, logits_at_once=None):
    """What a pack's step holds at its most beside weights and optimizer, and what its gradients are of it."""
    packed, optimizer = make_pack([lora(r)] * SLOTS, r_max=r, base=model)
    stepper = Stepper(packed, optimizer, objective, max_grad_norm=1.0)
    if logits_at_once is not None:
        stepper._head = Head(packed, at_once=logits_at_once)
    own = (packed.weights, packed.gradients, optimizer.first, optimizer.second)
    batch = random_batch(
        model.config.vocab_size, prompt=PROMPT, slots=SLOTS, completions=objective.group_size,
        tokens=objective.max_completion_tokens,
    )  # fmt: skip
    with LiveBytes([*model.parameters(), *model.buffers(), *own]) as live:
        stepper.step(range(SLOTS), batch)
    return live.most, packed.gradients.nbytes


@pytest.mark.parametrize(("entropy_coef", "logit_copies"), [(0.0, 4), (0.1, 5)])
@pytest.mark.parametrize("tokens", [64, 160])
@pytest.mark.parametrize("logits_at_once", [None, 40 * SHAPE["vocab_size"]])
def test_a_step_holds_what_the_plan_says_within_a_tenth(tokens, logits_at_once, entropy_coef, logit_copies):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE)).train()
    objective = Objective(loss_type="dapo", group_size=GROUP, max_completion_tokens=tokens, entropy_coef=entropy_coef)
    most, gradients = step_bytes(model, objective, r=8, logits_at_once=logits_at_once or 2**40)
    planned = gradients + training_activation_bytes(
        make_shape({**SHAPE, "model_type": "llama", "dtype": "float32"}),
        "float32",
        logits_dtype="float32",
        sequences=SLOTS * GROUP,
        sequence_tokens=PROMPT // GROUP + tokens,  # a prompt runs once for its group
        completion_tokens=tokens,
        checkpointing="off",
        logits_at_once=logits_at_once,
        packed=True,
        adapter_width=8 * len(TARGET_MODULES),
        logit_copies=logit_copies,
    )
    assert most == pytest.approx(planned, rel=0.1)


def test_adapters_half_as_wide_as_the_model_are_in_the_plan():
    torch.manual_seed(0)
    group, tokens, r = 32, 48, NARROW["hidden_size"] // 2
    objective = Objective(loss_type="dapo", group_size=group, max_completion_tokens=tokens)
    most, gradients = step_bytes(LlamaForCausalLM(LlamaConfig(**NARROW)).train(), objective, r=r)
    planned = gradients + training_activation_bytes(
        make_shape({**NARROW, "model_type": "llama", "dtype": "float32"}),
        "float32",
        logits_dtype="float32",
        sequences=SLOTS * group,
        sequence_tokens=tokens,
        completion_tokens=tokens,
        checkpointing="off",
        packed=True,
        adapter_width=r * len(TARGET_MODULES),
    )
    assert most == pytest.approx(planned, rel=0.1)


@pytest.mark.parametrize(("checkpointing", "slots", "completions"), [("standard", 4, 4), ("off", 4, 2)])
@pytest.mark.parametrize(("dtype", "on_gpu"), [("float32", True), ("bfloat16", True), ("bfloat16", False)])
def test_at_a_1B_models_shape_a_micro_batch_holds_what_the_plan_says(
    monkeypatch, dtype, on_gpu, checkpointing, slots, completions
):
    """Tensors have shapes and no memory: tens of GiB are counted where there are none."""
    monkeypatch.setattr(Head, "_is_last", lambda self, device: True)  # it compares numbers
    prompt = tokens = 512
    objective = Objective(loss_type="dapo", group_size=2 * completions, max_completion_tokens=tokens)
    # On a card, 16 bits run under autocast. The processor's stands for it.
    casts = on_gpu and dtype == "bfloat16"
    autocast = partial(torch.autocast, "cpu", torch.bfloat16) if casts else nullcontext
    training = pack_halves(slots, on_gpu=on_gpu)[-1]
    with FakeTensorMode():
        model = LlamaForCausalLM._from_config(LlamaConfig(**LLAMA_1B), dtype=getattr(torch, dtype)).train()
        if checkpointing == "standard":
            model.gradient_checkpointing_enable({"use_reentrant": False})
        packed = pack(model, TARGET_MODULES, slots=slots, r_max=64)
        optimizer = PackedAdamW(packed.weights, packed.gradients)
        stepper = Stepper(packed, optimizer, objective, max_grad_norm=1.0, prompt_once=False, autocast=autocast)
        sizes = {"slots": len(training), "completions": 2 * completions}
        batch = random_batch(LLAMA_1B["vocab_size"], prompt=prompt, tokens=tokens, **sizes)
        own = (packed.weights, packed.gradients, optimizer.first, optimizer.second)
        with LiveBytes([*model.parameters(), *model.buffers(), *own]) as live, packed.selected(training):
            # Not a whole step, which reads its numbers. The second finds the gradients that the first has left.
            for i, part in enumerate((slice(0, completions), slice(completions, 2 * completions))):
                stepper._backward(batch, i, part, batch.sequences(part.start, part.stop))
    workload = Workload(
        model=ModelSettings(
            name="x",
            max_lora_rank=64,
            dtype=dtype,
            max_seq_length=prompt + tokens,
            gradient_checkpointing=checkpointing,
        ),
        budget=BudgetSettings(steps=1, prompts_per_step=1, group_size=2 * completions),
        micro_batch_size=completions,
        completion_tokens=tokens,
        held_out_prompts=1,
        slots=slots,
        packed=True,
        on_gpu=on_gpu,
    )
    shape = make_shape({**LLAMA_1B, "model_type": "llama", "dtype": dtype})
    planned = footprint(shape, workload, engine="vllm", max_lora_rank=64, r=64).training_activations
    assert live.most > 2 * 2**30
    assert live.most == pytest.approx(planned, rel=0.05)
