import dataclasses
import json
import os
import subprocess
import sys

import pytest

from objectives.errors import ModelConfigError
from objectives.memory.config_files import find_config
from objectives.trial.messages import HeldOutScore
from sweep.errors import UsageError
from sweep.planning.measured import Measured
from sweep.planning.study_plan import plan_study
from sweep.preflight.cards import CARDS
from sweep.preflight.devices import GIB, MIB, named_device, present_device
from sweep.study.provenance import settings_in_force
from sweep.study.reading import find_study, load_study, read_toml, shipped_studies
from tests.support.command import sweep

HEAVY = ("torch", "vllm", "unsloth", "trl", "optuna", "pandas", "plotly", "transformers", "peft", "scipy")
LLAMA_1B = ["--set", "model.name=unsloth/Llama-3.2-1B-Instruct", "--set", "model.dtype=bfloat16"]
KEYS = {"workers",
    "study", "model", "search", "engine", "trainer", "estimates", "device", "fit", "budget", "prompts", "notes",
    "settings", "measured", "pack", "verdict", "time", "cards",
}  # fmt: skip


def plan(*overrides, device=None):
    """One trial at a time; packs are planned in a file of their own."""
    alone = ["learner.name=trl", *overrides]
    config = load_study("tiny", alone)
    named = None if device is None else named_device(device)
    overridden = [override.partition("=")[0] for override in alone]
    settings = settings_in_force(config, read_toml(find_study("tiny")), overridden)
    return plan_study(config, device=named, settings=settings)


def memory(*overrides, device=None):
    """What it holds in memory."""
    return plan(*overrides, device=device).memory


def planned(*arguments, cwd, env=None):
    """What the command prints with --json."""
    done = sweep("plan", *arguments, "--json", cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def no_gpu(monkeypatch, tmp_path):
    """A PATH without nvidia-smi."""
    monkeypatch.setenv("PATH", str(tmp_path))


def test_the_command_plans_a_study_and_leaves_nothing(tmp_path, no_gpu):
    plan = planned("tiny", cwd=tmp_path)
    assert plan.keys() == KEYS
    assert plan["search"] == {
        "ladders": {"r": [1, 4, 16, 64], "alpha": [16, 32, 64], "learning_rate": [1e-3, 2e-3, 4e-3, 8e-3]},
        "points_per_rank": 4,
        "design_trials": 16,
        "tpe_trials": 4,
        "trials": 20,
    }
    assert (plan["device"], plan["fit"], plan["measured"], plan["notes"]) == (None, None, None, [])
    assert list(tmp_path.iterdir()) == []


def test_the_budget_is_counted_in_steps_prompts_episodes_and_tokens(tmp_path):
    budget = planned("tiny", cwd=tmp_path)["budget"]
    assert budget["per_trial"] == {
        "steps": 80, "prompts": 80 * 16, "episodes": 80 * 16 * 8, "completion_tokens": 80 * 16 * 8 * 5,
        "evaluation_completions": 2 * 1024, "evaluation_tokens": 2 * 1024 * 5,
    }  # fmt: skip
    assert budget["in_all"] == {name: 20 * value for name, value in budget["per_trial"].items()}


def test_each_ceiling_says_what_it_costs_and_what_it_would_save():
    rows = {row.max_lora_rank: row for row in memory("model.max_lora_rank=64", "space.r=[1, 4, 32]").ceilings}
    assert list(rows) == [1, 8, 16, 32, 64, 128, 256, 320, 512]
    assert (rows[64].bytes, rows[64].saved_bytes) == (1048576, 0)
    assert (rows[32].saved_bytes, rows[128].saved_bytes) == (524288, -1048576)
    assert [rows[ceiling].largest_r for ceiling in (1, 8, 16, 32, 512)] == [1, 4, 4, 32, 32]


def test_a_ceiling_that_is_rounded_up_or_too_high_is_noted():
    notes = plan("model.max_lora_rank=65").notes
    assert notes[0] == "model.max_lora_rank=65 costs as much as 128: vLLM allows no value in between."
    assert notes[1] == "r goes up to 64 only: model.max_lora_rank=64 would serve it and save 1.0 MiB."


def test_a_lower_ceiling_than_the_alphas_is_noted_with_what_lifts_their_wall():
    (note,) = plan("space.r=[1, 4, 32]", "space.alpha=[16, 64]").notes
    assert note.startswith("r goes up to 32 only: model.max_lora_rank=32 with space.alpha_above_ceiling=true would")
    plan("space.r=[1, 4, 32]", "space.alpha=[16, 64]", "model.max_lora_rank=32", "space.alpha_above_ceiling=true")


def test_a_search_that_ends_within_its_design_is_noted():
    (note,) = plan("search.trials=15").notes
    assert note.startswith("search.trials=15 ends the search within its design of 16")
    assert plan("search.trials=15").search.tpe_trials == 0


def test_few_held_out_prompts_are_noted():
    (note,) = plan("task.held_out_prompts=127").notes
    assert note.startswith("task.held_out_prompts=127 is below 128: where rewards are 0 or 1")
    assert plan("task.held_out_prompts=128").notes == ()


def test_every_setting_has_its_origin(tmp_path):
    plan = planned("tiny", "--set", "budget.steps=7", "--set", "space.alpha=[16, 64]", cwd=tmp_path)
    settings = {setting["key"]: (setting["value"], setting["origin"]) for setting in plan["settings"]}
    assert settings["budget.steps"] == (7, "--set")
    assert settings["space.alpha"] == ([16, 64], "--set")
    assert settings["model.name"] == ("shipped/tiny", "file")
    assert settings["model.policy"] == ("unsloth", "default")
    assert settings["space.use_rslora"] == ([False], "default")


def test_a_ladder_that_is_left_out_is_shown_as_what_it_comes_to(tmp_path):
    study = tmp_path / "mine.toml"
    study.write_text(shipped_studies()["tiny"].read_text().replace("r = [1, 4, 16, 64]\n", ""))
    settings = {setting.key: setting for setting in settings_in_force(load_study(str(study)), read_toml(study))}
    assert (settings["space.r"].value, settings["space.r"].origin) == ([1, 4, 16, 64], "default")


def test_on_a_gpu_unsloth_starts_an_unrestricted_engine(no_gpu):
    overrides = [part for part in LLAMA_1B if part != "--set"]
    on_cpu, on_gpu = memory(*overrides), memory(*overrides, device="L4")
    assert (on_cpu.engine, on_gpu.engine) == ("vllm", "unsloth")
    assert on_gpu.footprint.adapters - on_cpu.footprint.adapters == 2 * 64 * 2 * (128256 + 2048)
    assert memory(*overrides, "model.device=gpu").engine == "unsloth"
    assert memory(*overrides, "model.policy=peft", device="L4").engine == "vllm"


def test_generate_sets_nothing_aside():
    held = memory("model.engine=transformers", device="T4")
    assert (held.engine, held.footprint.adapters, held.footprint.in_engine) == ("transformers", 0, 0)
    assert held.fit.fits


@pytest.mark.parametrize(
    ("overrides", "lacks"),
    [
        ([], []),
        (["model.gpu_memory_utilization=0.97"], ["training lacks room"]),
        (["learner.micro_batch_size=128"], ["training lacks room"]),
        (["model.gpu_memory_utilization=0.1"], ["the engine's share is too small"]),
        (
            ["model.gpu_memory_utilization=0.25", "model.max_seq_length=8192", "learner.micro_batch_size=32"],
            ["training lacks room", "the engine has no room for one sequence"],
        ),
    ],
)
def test_what_fits_says_what_does_not(overrides, lacks):
    llama = [
        "model.name=unsloth/Llama-3.2-1B-Instruct", "model.dtype=bfloat16", "model.gpu_memory_utilization=0.5",
        "model.max_seq_length=1024", "model.gradient_checkpointing=unsloth", "learner.micro_batch_size=4",
    ]  # fmt: skip
    fit = memory(*llama, *overrides, device="16GiB").fit
    assert fit.fits == (not lacks)
    assert [part.split(":")[0].split(" for weights")[0] for part in fit.reason.split("; ") if part] == lacks


def test_four_bits_hold_less_and_peft_holds_them_twice():
    llama = ["model.name=unsloth/Meta-Llama-3.1-8B-Instruct", "model.dtype=bfloat16", "model.load_in_4bit=true"]
    unsloth = memory(*llama, device="L4").footprint
    peft = memory(*llama, "model.policy=peft", device="L4").footprint
    assert unsloth.weights < 0.4 * 2 * 8_030_261_248
    assert (unsloth.weights_shared, peft.weights_shared) == (True, False)
    assert peft.in_trainer - unsloth.in_trainer == peft.weights == unsloth.weights


def test_a_gpu_without_bfloat16_is_noted():
    assert any("cannot compute in bfloat16" in note for note in plan("model.dtype=bfloat16", device="T4").notes)
    assert not any("bfloat16" in note for note in plan("model.dtype=bfloat16", device="L4").notes)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("t4", "T4"), ("Tesla T4", "T4"), ("a100 80GB", "A100-80"), ("4090", "RTX 4090"), ("rtx-3090", "RTX 3090")],
)
def test_a_gpu_may_be_spelt_in_many_ways(spelling, name):
    device = named_device(spelling)
    assert (device.name, device.memory_bytes) == (name, CARDS[name].memory_mib * MIB)


def test_any_gpu_may_be_named_by_its_memory():
    assert named_device("48GiB").memory_bytes == 48 * GIB
    assert named_device("22.5 gib").memory_bytes == int(22.5 * GIB)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("A100", "did you mean A100-40 or A100-80? "), ("H10", "did you mean H100? "), ("", ""), ("48", ""), ("0GiB", "")],
)
def test_an_unknown_gpu_is_answered_with_those_that_are_known(name, hint):
    with pytest.raises(UsageError) as raised:
        named_device(name)
    assert f"--device {name!r}; {hint}allowed: T4, " in str(raised.value)


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo NVIDIA L4, 23034", ("NVIDIA L4", 23034 * MIB)),
        ("exit 9", None),
        ("echo", None),
        ("echo no devices", None),
    ],
)
def test_the_gpu_here_is_found_without_torch(script, found, monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    device = present_device()
    assert (device and (device.name, device.memory_bytes)) == found


def test_a_config_is_found_in_the_hub_cache(monkeypatch, tmp_path):
    for revision in ("aaaa", "bbbb"):
        folder = tmp_path / "hub" / "models--acme--small" / "snapshots" / revision
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    os.utime(folder.parent / "aaaa" / "config.json", (1, 1))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert find_config("acme/small").parent.name == "bbbb"
    refs = folder.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("aaaa")
    assert find_config("acme/small").parent.name == "aaaa"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(ModelConfigError, match="elsewhere"):
        find_config("acme/small")


def test_a_config_is_found_in_a_folder_or_by_its_own_path(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert find_config(str(tmp_path)) == find_config(str(tmp_path / "config.json")) == tmp_path / "config.json"


@pytest.mark.parametrize("name", ["someone/some-model", "{folder}/mixtral"])
def test_a_model_whose_shape_is_not_known_is_planned_without_its_memory(name, tmp_path):
    (tmp_path / "mixtral").mkdir()
    (tmp_path / "mixtral" / "config.json").write_text('{"model_type": "mixtral"}')
    name = name.format(folder=tmp_path)
    done = sweep("plan", "tiny", "--set", f"model.name={name}", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert {plan[part] for part in ("model", "engine", "trainer", "pack", "estimates", "fit")} == {None}
    assert plan["budget"]["per_trial"]["steps"] == 80
    assert plan["notes"][0].startswith("Memory is left out: ")
    shown = sweep("plan", "tiny", "--set", f"model.name={name}", "--full", cwd=tmp_path).stdout
    assert "memory at its peak" not in shown
    assert "Memory is left out" in shown
    alone = sweep("lora", name, "--max-lora-rank", 8, cwd=tmp_path)
    assert alone.returncode == 2, "without the model there is nothing to say"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is a folder without a config.json"),
        ("", "not JSON"),
        ("[]", "holds a list; allowed: a JSON object"),
        ("{}", "model_type=None is not planned for; allowed: llama, qwen2, qwen3, mistral, gemma2, gemma3_text"),
        ('{"model_type": "llama"}', "hidden_size is missing; it must be given"),
    ],
)
def test_a_model_that_cannot_be_planned_for_is_exit_code_2_and_one_line(content, message, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    if content is not None:
        (model / "config.json").write_text(content)
    before = sorted(tmp_path.rglob("*"))
    for arguments in (["plan", "tiny", "--set", f"model.name={model}"], ["lora", model, "--max-lora-rank", "8"]):
        done = sweep(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "no study 'nosuch'"),
        (["tiny", "--device", "A100"], "did you mean A100-40 or A100-80?"),
        (["tiny", "--set", "model.name=./nosuch"], "no config.json for './nosuch'"),
        (["tiny", "--set", 'model.target_modules=["c_attn"]'], "target module 'c_attn' is not in a llama model"),
        (["tiny", "--set", "model.max_lora_rank=600"], "model.max_lora_rank"),
    ],
)
def test_a_mistake_is_exit_code_2_and_one_line(arguments, message, tmp_path):
    done = sweep("plan", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("study", shipped_studies())
@pytest.mark.parametrize("device", [[], ["--device", "L4"]])
def test_every_shipped_study_can_be_planned_in_80_columns(study, device, tmp_path):
    for full in ([], ["--full"]):
        done = sweep("plan", study, *device, *full, cwd=tmp_path, env={"COLUMNS": "80"})
        assert (done.returncode, done.stderr) == (0, "")
        assert " ".join(done.stdout.split()).startswith(f"study {study}")
        assert max(map(len, done.stdout.splitlines())) <= 80
        assert full or len(done.stdout.splitlines()) <= 24


@pytest.mark.parametrize(
    "arguments", [["plan", "tiny", "--device", "T4"], ["lora", "shipped/tiny", "--max-lora-rank", "64"]]
)
def test_both_commands_load_nothing_heavy(arguments, tmp_path):
    program = (
        f"import sys; sys.argv = ['sweep', *{arguments!r}]; from sweep.cli import main\n"
        f"try: main()\nexcept SystemExit: print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.slow
def test_measure_runs_a_few_steps_and_estimates_the_studys_time(tmp_path):
    small = ["--set", "task.held_out_prompts=16", "--set", "budget.prompts_per_step=4", "--set", "budget.group_size=4"]
    measured = planned("tiny", "--measure", "--set", "learner.name=trl", *small, cwd=tmp_path)["measured"]
    assert measured["r"] == 64
    trial = measured["build_seconds"] + 80 * measured["step_seconds"] + measured["evaluation_seconds"]
    assert measured["trial_seconds"] == pytest.approx(trial)
    assert measured["study_seconds"] == pytest.approx(measured["load_seconds"] + 20 * trial)
    assert 0 < measured["step_seconds"] < 30
    assert 0 < measured["mean_completion_tokens"] <= 5
    assert measured["base"]["prompts"] == 16
    assert list(tmp_path.iterdir()) == []


def test_a_measured_plan_weighs_more_prompts_against_one_more_seed():
    base = HeldOutScore(step=0, sampled=0.3, greedy=0.3, prompts=400, spread=0.5)
    timed = Measured(
        r=64, load_seconds=9.0, slots=1, step_seconds=0.1, build_seconds=0.0, evaluation_seconds=2.0,
        trial_seconds=10.0, study_seconds=209.0, mean_completion_tokens=5.0, base=base,
    )  # fmt: skip
    assert timed.noise == (
        "400 held-out prompts alone make 0.025 of noise in a score. Twice as many take away 29 % of that, in a "
        "confirmation's trials 33 % longer; one more seed is one more trial of 12 s for each rank."
    )
    solved = dataclasses.replace(timed, base=dataclasses.replace(base, spread=0.0))
    assert (solved.noise, dataclasses.replace(timed, base=None).noise) == ("", "")
