"""The parts of the GPU benchmark that a CPU can run, and what becomes of those that fail."""

import dataclasses
import json

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import study, training, versions
from benchmarks.gpu.ceilings import RANKS, adapter_in_engine, live_adapter_bytes, take_turn
from benchmarks.gpu.children import Part, last_words, run_part
from benchmarks.gpu.table import markdown
from objectives.engines.adapter_files import AdapterFolder
from objectives.engines.protocol import Sampling
from objectives.lora import LoraSpec
from objectives.memory.config_files import find_config
from objectives.memory.exact import engine_memory
from objectives.memory.shape import read_shape
from sweep.preflight.devices import named_device

SMALL = (
    "task.max_completion_tokens=8", "budget.steps=4", "budget.prompts_per_step=2", "budget.group_size=4",
    "task.held_out_prompts=4", "model.gpu_memory_utilization=0.05", "learner.micro_batch_size=8",
)  # fmt: skip
KEYS = [
    "versions", "rollouts", "trl_unsloth", "packed_4", "trl_peft", "ceiling_64", "equality", "packed_8", "packed_1",
    "ceiling_8", "ceiling_128", "ceiling_16", "ceiling_32",
]  # fmt: skip


@pytest.fixture
def small_parts(tmp_path):
    """Every part, on a model that a CPU trains in seconds; each learner and each kind of part once."""
    from objectives.models.make_random import make_random_model

    path = study.write_study(tmp_path, model=str(make_random_model(tmp_path / "model")), dtype="float32")
    kept = []
    for part in command.parts(path, named_device("H100")):
        order = part.order | {"overrides": [*part.order.get("overrides", ()), *SMALL]}
        if part.name == "equality":
            order = {"overrides": ["model.policy=peft", "budget.steps=1", "task.held_out_prompts=8"], "seeds": 2}
        kept.append(dataclasses.replace(part, order=order))
    return [part for part in kept if part.key not in ("packed_1", "packed_8") and part.key not in KEYS[9:]]


def test_the_bytes_it_reads_off_a_live_engine_are_those_planned(vllm_engine, tiny):
    [actual] = vllm_engine._llm.apply_model(live_adapter_bytes)
    shape = read_shape(find_config(tiny.path))
    planned = engine_memory(shape, max_lora_rank=64, max_loras=4, dtype="float32", target_modules=tiny.target_modules)
    assert actual == planned.bytes > 0


@pytest.mark.parametrize(("r", "alpha"), [(8, 16), (64, 32), (1, 2)])
def test_rank_and_alpha_it_reads_off_a_live_engine_are_those_published(vllm_engine, peft_policy, tmp_path, r, alpha):
    model = peft_policy.build(LoraSpec(r=r, alpha=alpha), seed=0)
    version = AdapterFolder(tmp_path).publish("test", model, r)
    peft_policy.release()
    vllm_engine.rollout([[3, 4, 5]], [version], Sampling(temperature=0.0, max_tokens=2), [0])
    assert vllm_engine._llm.collective_rpc(adapter_in_engine, args=(version.id,)) == [(r, alpha)]


def test_a_turn_tells_the_adapter_in_the_engine_and_how_far_its_log_probabilities_are(
    vllm_engine, peft_policy, tmp_path
):
    for r in RANKS:
        turn = take_turn(peft_policy, vllm_engine, r, tmp_path, prompts=4, tokens=6)
        assert (turn["engine_r"], turn["engine_alpha"]) == (r, 2 * r)
        assert turn["mean_logprob_gap"] < 1e-3
        assert turn["tokens_per_s"] > 0


def test_parts_come_in_the_order_of_what_matters_and_micro_batches_are_those_that_fit(tmp_path):
    path = study.write_study(tmp_path, model=study.SHAPE, dtype="bfloat16")
    small, large = (command.parts(path, named_device(name)) for name in ("L4", "H100"))
    assert [part.key for part in small] == KEYS
    sizes = [
        [int(p.order["overrides"][-1].partition("=")[2]) for p in own if "study" in p.order] for own in (small, large)
    ]
    assert sizes[0] != sizes[1]
    assert all(ours <= theirs for ours, theirs in zip(*sizes, strict=True))


def test_memory_is_planned_as_sweep_plan_does(tmp_path):
    path = study.write_study(tmp_path, model=study.SHAPE, dtype="bfloat16")
    one, four = (training.planned(study.read(path, [f"learner.pack_size={k}"])) for k in (1, 4))
    assert 0 < one["planned_training_bytes"] < four["planned_training_bytes"] < four["planned_device_bytes"]


def test_a_part_that_fails_leaves_its_last_words_and_one_without_time_is_not_begun(tmp_path, capsys):
    broken = Part(key="trl_peft", name="training", order={"study": "nowhere.toml", "overrides": []})
    results = command.measure_all([Part(key="versions", name="versions"), broken], tmp_path, limit_s=120)
    assert results["versions"]["result"]["packages"]["trl"]
    assert results["trl_peft"]["error"].startswith("sweep.errors.StudyFileError: ")
    assert json.loads((tmp_path / "gpu-benchmark.json").read_text()) == results
    assert "Traceback" in (tmp_path / "gpu-benchmark.log").read_text()
    assert "trl_peft: " in capsys.readouterr().out
    table = markdown(results)
    assert "| step, TRL + PEFT | sweep.errors.StudyFileError: " in table
    late = command.measure_all([broken], tmp_path, limit_s=command.LEAST_S / 2)
    assert late["trl_peft"]["error"] == "not begun: no time left"


def test_a_part_that_hangs_is_ended(tmp_path):
    outcome = run_part(Part(key="versions", name="versions"), limit_s=0.05, log=tmp_path / "log")
    assert outcome.error == "TimeoutError: not done after 0 s"


@pytest.mark.parametrize(
    ("complaints", "said"),
    [
        ("Traceback\n  x\ntorch.OutOfMemoryError: CUDA out of memory.\n\nsys:1: a leak\n",
         "torch.OutOfMemoryError: CUDA out of memory."),
        ("[rank0]: Traceback\n[rank0]: ValueError: no\n[rank0]:[W1128] destroy\n", "ValueError: no"),
        ("Segmentation fault\n", "Segmentation fault"),
        ("", ""),
    ],
)  # fmt: skip
def test_last_words_are_the_errors_not_what_is_printed_while_all_is_torn_down(complaints, said):
    assert last_words(complaints) == said


def test_other_versions_than_the_cpu_suites_are_warned_of():
    assert versions.differences(versions.installed()) == []
    assert versions.differences(versions.installed() | {"trl": "1.15.0"}) == ["trl 1.15.0: the CPU suite proves 1.13.0"]


def test_the_table_works_out_makespans_and_keeps_to_rows():
    def trained(seconds, slots, step_s):
        memory = dict.fromkeys(
            ("training_bytes", "planned_training_bytes", "device_bytes", "planned_device_bytes"), 2**30
        )
        result = {"slots": slots, "steps": 8, "step_s": step_s, "micro_batch_size": 8, "memory": memory}
        return {"seconds": seconds, "result": result}

    table = markdown({"trl_unsloth": trained(100, 1, 2.0), "packed_4": trained(100, 4, 4.0)})
    assert "| naive / packed, 4 trials of 8 steps | 4.00 | 400 s / 100 s |" in table
    assert f"| {4 * (100 + 242 * 2) / (100 + 242 * 4):.2f} |" in table
    assert "| memory of training, packed, 4 trials | 1.00 GiB | 1.00 GiB planned |" in table
    assert {line.count("|") for line in table.splitlines() if line.startswith("|")} == {4}


def test_a_machine_without_a_gpu_is_told_so_in_one_line(monkeypatch):
    monkeypatch.setattr(command, "device_here", lambda: None)
    monkeypatch.setattr("sys.argv", ["benchmarks.gpu"])
    with pytest.raises(SystemExit, match=r"^benchmarks\.gpu: no NVIDIA GPU .*; allowed: one GPU and the extra `gpu`$"):
        command.main()


@pytest.mark.long
def test_every_part_that_a_cpu_can_run_is_measured(small_parts, tmp_path):
    results = command.measure_all(small_parts, tmp_path, limit_s=600)
    # Unsloth has an engine of its own on a GPU alone.
    assert "Unsloth started no engine" in results.pop("ceiling_64")["error"]
    assert [key for key, outcome in results.items() if "error" in outcome] == []
    assert results["rollouts"]["result"]["tokens_per_s"].keys() == {"1", "4", "8"}
    assert (results["packed_4"]["result"]["slots"], results["trl_unsloth"]["result"]["slots"]) == (4, 1)
    assert all(results[key]["result"]["step_s"] > 0 for key in ("trl_unsloth", "trl_peft", "packed_4"))
    assert len(results["equality"]["result"]["packed"]) == 2
    assert "naive / packed, 4 trials of 4 steps" in markdown(results)
