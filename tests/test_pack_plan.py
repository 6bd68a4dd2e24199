"""How many trials a pack takes: planned bytes against those of real packs, and what limits their number."""

import json
import re
from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch

from objectives.learners.packed.linear import pack
from objectives.learners.packed.optimizer import PackedAdamW
from objectives.lora import TARGET_MODULES
from objectives.memory.config_files import find_config
from objectives.memory.footprint import Workload, footprint
from objectives.memory.shape import make_shape, read_shape
from objectives.settings.sections import BudgetSettings, ModelSettings
from sweep.errors import StudyFileError
from sweep.planning.pack import plan_pack, sized_pack, study_footprint, with_slots
from sweep.preflight.checks import check_device
from sweep.preflight.devices import GIB, MIB, Device, named_device
from sweep.preflight.placement import place
from sweep.study.reading import load_study
from tests.support.command import SMALL, sweep
from tests.support.packed import random_model

PACKED = ["learner.name=packed", "model.policy=peft"]
LLAMA_1B = [
    "model.name=unsloth/Llama-3.2-1B-Instruct", "model.dtype=bfloat16", "model.max_seq_length=1024",
    "learner.micro_batch_size=4", "search.trials=100", "model.gpu_memory_utilization=0.4",
    "model.gradient_checkpointing=standard",
]  # fmt: skip


def load(*overrides):
    return load_study("tiny", [*PACKED, *overrides])


def planned_pack(*overrides, device=None):
    config = load(*overrides)
    named = named_device(device) if isinstance(device, str) else device
    return plan_pack(config, read_shape(find_config(config.model.name)), named)


def tiny_model():
    from transformers import AutoModelForCausalLM

    path = ModelSettings(name="shipped/tiny", max_lora_rank=64).path
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def held_bytes(model, slots, ceiling, targets):
    """What a real pack and its optimizer hold after a step, in weights, gradients and moments."""
    packed = pack(model, targets, slots=slots, r_max=ceiling)
    optimizer = PackedAdamW(packed.weights, packed.gradients)
    tokens = torch.zeros(slots, 3, dtype=torch.long)
    model(input_ids=tokens).logits.sum().backward()
    left = sum(p.grad.nbytes for m in packed.modules.values() for p in (m.lora_A, m.lora_B))
    packed.collect_gradients()
    optimizer.step(range(slots))
    assert all(parameter.grad is None for parameter in packed.model.parameters())
    own = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in vars(optimizer).values()
           if isinstance(t, torch.Tensor)}  # fmt: skip
    own |= {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes()
            for m in packed.modules.values() for p in (m.lora_A, m.lora_B)}  # fmt: skip
    packed.unpack()
    return sum(own.values()), left


def footprint_of(shape, slots, ceiling, targets, *, packed=True):
    workload = Workload(
        model=ModelSettings(name="x", max_lora_rank=ceiling, target_modules=targets, dtype="float32"),
        budget=BudgetSettings(steps=1, prompts_per_step=2, group_size=2),
        micro_batch_size=None,
        completion_tokens=4,
        held_out_prompts=8,
        slots=slots,
        packed=packed,
    )
    return footprint(shape, workload, engine="vllm", max_lora_rank=ceiling, r=4)


@pytest.mark.parametrize("targets", [TARGET_MODULES, ("q_proj", "down_proj")], ids=["all", "two"])
@pytest.mark.parametrize("model", ["tiny", "Llama", "Qwen3", "Gemma2"])
def test_a_pack_holds_what_is_planned_to_the_byte_and_every_slot_the_same(model, targets):
    base = tiny_model() if model == "tiny" else random_model(model)
    shape = make_shape(base.config.to_dict())
    planned = {}
    for slots in (1, 2, 4):
        held, left = held_bytes(base, slots, 8, targets)
        planned[slots] = footprint_of(shape, slots, 8, targets)
        assert held == planned[slots].trainer
        assert left == planned[slots].trainer // 4  # which is planned for among the activations
    assert planned[4].trainer == 2 * planned[2].trainer == 4 * planned[1].trainer


def test_every_slot_of_a_pack_costs_what_the_plan_says_one_more_does():
    pack = planned_pack(*LLAMA_1B, device="H200")
    config, device = load(*LLAMA_1B), named_device("H200")
    shape = read_shape(find_config(config.model.name))
    held = [study_footprint(with_slots(config, slots), shape, device) for slots in range(1, 9)]
    for fewer, more in pairwise(held):
        assert more.trainer - fewer.trainer == pack.per_slot.trainer
        assert more.adapters - fewer.adapters == pack.per_slot.engine_adapters
    activations = held[1].training_activations - held[0].training_activations
    assert pack.per_slot.activations == activations + held[1].engine_activations - held[0].engine_activations
    assert pack.per_slot.trainer == 4 * 4 * 45_088_768


def test_on_a_cpu_only_the_larger_half_of_a_pack_trains_at_once():
    shape = read_shape(find_config("shipped/tiny"))
    cpu, gpu = (
        [study_footprint(with_slots(load(), slots), shape, device) for slots in (2, 5)]
        for device in (None, named_device("L4"))
    )
    own = 4 * 4 * 262_144 // 4  # gradients on the modules, of all slots
    of_one = gpu[0].training_activations // 2 - own
    assert [held.training_activations for held in cpu] == [of_one + 2 * own, 3 * of_one + 5 * own]


def test_a_pack_is_padded_to_the_ceiling_and_a_lone_trial_is_not():
    shape = read_shape(find_config("shipped/tiny"))
    alone, packed = (footprint_of(shape, 1, 64, TARGET_MODULES, packed=packed) for packed in (False, True))
    assert packed.trainer == 16 * alone.trainer
    rounded = load("model.max_lora_rank=48", "space.r=[1, 48]", "space.alpha=[16, 48]")
    assert study_footprint(with_slots(rounded, 1), shape, None).trainer == packed.trainer


def test_the_more_memory_the_more_slots_up_to_eight_on_a_gpu():
    packs = [planned_pack(*LLAMA_1B, device=name) for name in ("8GiB", "12GiB", "L4", "A100-40", "H200")]
    slots, fitting = [p.slots for p in packs], [p.fitting for p in packs]
    assert fitting == sorted(fitting)
    assert slots == [max(1, min(8, fit)) for fit in fitting]
    assert (slots[0], slots[-1]) == (1, 8)
    assert packs[1].reason == "there is memory for no more"
    assert packs[-1].reason == "8 at most, unless learner.pack_size says otherwise"


def test_what_fits_is_what_the_plan_says_fits(tmp_path):
    overrides = [word for override in [*PACKED, *LLAMA_1B] for word in ("--set", override)]
    most = planned_pack(*LLAMA_1B, device="A100-40").fitting

    def fits(slots):
        more = ["--set", f"learner.pack_size={slots}", "--device", "A100-40", "--json"]
        return json.loads(sweep("plan", "tiny", *overrides, *more, cwd=tmp_path).stdout)["fit"]

    assert fits(most)["fits"]
    assert "lower learner.micro_batch_size, learner.pack_size or" in fits(most + 1)["reason"]


def test_a_pack_is_no_larger_than_trials_a_rank():
    assert planned_pack("search.trials=9", device="H200").slots == 2
    assert planned_pack("search.trials=3", device="H200").slots == 1


def test_on_a_cpu_a_pack_has_four_slots_or_as_many_as_memory_is_left_for(monkeypatch):
    assert (planned_pack().slots, planned_pack().reason) == (4, "4 at most, unless learner.pack_size says otherwise")
    monkeypatch.setattr("sweep.planning.pack.available_memory", lambda: 3.906 * GIB)
    pack = planned_pack()
    assert (pack.slots, pack.fitting) == (3, 3)
    monkeypatch.setattr("sweep.planning.pack.available_memory", lambda: MIB)
    assert (planned_pack().slots, planned_pack().fitting) == (1, 0)
    monkeypatch.setattr("sweep.planning.pack.available_memory", lambda: None)
    assert (planned_pack().slots, planned_pack().fitting) == (4, None)


def test_a_size_that_the_study_names_stands():
    pack = planned_pack("learner.pack_size=11", device="L4")
    assert (pack.slots, pack.reason) == (11, "as learner.pack_size says")


def test_a_study_is_run_with_the_size_that_is_planned():
    assert sized_pack(load(), None).learner.pack_size == 4
    assert sized_pack(load("learner.pack_size=7"), None).learner.pack_size == 7
    assert sized_pack(load("learner.name=trl"), None).learner.slots == 1
    device = Device(name="GPU", memory_bytes=100 * GIB, source="nvidia-smi")
    assert sized_pack(load("search.trials=100"), device).learner.pack_size == 8


def test_a_model_that_cannot_be_planned_for_is_packed_as_on_a_cpu():
    assert sized_pack(load("model.name=nosuch/model"), None).learner.pack_size == 4


def test_the_command_shows_size_reason_slope_and_what_fits(tmp_path):
    arguments = ["plan", "tiny", "--set", "learner.name=packed", "--set", "model.policy=peft", "--device", "L4"]
    shown = sweep(*arguments, "--full", cwd=tmp_path, env={"COLUMNS": "80"}).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "5 slots: no more than 20 trials give each of 4 ranks" in shown
    assert "exact, padded to r=64" in shown
    assert "L4 has room for 64 or more (estimate)" in shown
    pack = json.loads(sweep(*arguments, "--json", cwd=tmp_path).stdout)["pack"]
    assert pack["slots"] == 5
    assert pack["per_slot"]["trainer"] == 4 * 4 * 262_144
    assert pack["per_slot"]["bytes"] == sum(value for key, value in pack["per_slot"].items() if key != "bytes")
    alone = json.loads(sweep("plan", "tiny", "--set", "learner.name=trl", "--json", cwd=tmp_path).stdout)
    assert alone["pack"] is None


def test_a_pack_on_unsloths_gpu_kernels_is_noted(tmp_path):
    done = sweep("plan", "tiny", "--set", "learner.name=packed", "--device", "L4", "--json", cwd=tmp_path)
    assert any("--set model.policy=peft" in note for note in json.loads(done.stdout)["notes"])


@pytest.mark.parametrize(
    ("overrides", "on_gpu", "says"),
    [
        (["model.policy=unsloth"], True, "--set model.policy=peft"),
        (["model.dtype=float16"], True, "--set model.dtype=bfloat16"),
        ([], True, None),
        (["learner.name=trl", "model.dtype=float16"], True, None),
        (["model.dtype=float16"], False, None),
    ],
)
def test_what_cannot_be_packed_is_refused_before_anything_loads(monkeypatch, overrides, on_gpu, says):
    config = load(*overrides)
    reason = place(config, named_device("L4") if on_gpu else None).unpackable
    assert (says or "") in reason and bool(reason) == bool(says)
    monkeypatch.setattr("sweep.preflight.devices.Path.glob", lambda *_: ["nvidia0"] if on_gpu else [])
    monkeypatch.setattr("sweep.preflight.placement.version", lambda _: "2.13.0+cu128")
    with pytest.raises(StudyFileError, match=re.escape(says)) if says else nullcontext():
        check_device(config)
    monkeypatch.setattr("sweep.preflight.placement.version", lambda _: "2.13.0+cpu")
    check_device(config)


def test_checkpoints_that_cost_a_pack_its_shared_prompts_are_noted(tmp_path):
    for how in ("standard", "off"):
        shown = sweep("plan", "tiny", "--set", f"model.gradient_checkpointing={how}", "--json", cwd=tmp_path).stdout
        assert any("runs it once" in note for note in json.loads(shown)["notes"]) == (how == "standard")


@pytest.mark.slow
def test_measuring_a_pack_runs_all_of_its_slots(tmp_path):
    done = sweep(
        "plan", "tiny", "--measure", *SMALL, "--set", "learner.name=packed", "--set", "learner.pack_size=2", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    measured = json.loads(done.stdout)["measured"]
    assert measured["slots"] == 2
    trial = measured["build_seconds"] + 6 * measured["step_seconds"] / 2 + measured["evaluation_seconds"]
    assert measured["trial_seconds"] == pytest.approx(trial)
    assert measured["study_seconds"] == pytest.approx(measured["load_seconds"] + 20 * trial)
