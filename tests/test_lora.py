import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.lora import TARGET_MODULES, LoraSpec, configure_lora_for_rl
from tests.support.command import sweep

HEAVY = ("torch", "vllm", "transformers", "peft", "optuna", "pandas", "numpy", "scipy")


@pytest.mark.parametrize(
    ("ceiling", "complexity", "r"),
    [
        (64, "high", 64), (64, "normal", 32), (64, "low", 32), (32, "high", 32), (32, "normal", 16),
        (9, "normal", 4), (2, "normal", 1), (1, "normal", 1), (1, "high", 1),
    ],
)  # fmt: skip
def test_a_complex_task_gets_the_whole_ceiling_and_any_other_half(ceiling, complexity, r):
    assert configure_lora_for_rl(ceiling, complexity).r == r


@given(st.integers(1, 4096), st.sampled_from(["high", "normal"]))
def test_the_rule_stays_between_one_and_the_ceiling(ceiling, complexity):
    spec = configure_lora_for_rl(ceiling, complexity)
    assert 1 <= spec.r <= ceiling
    assert (spec.alpha, spec.scaling, spec.target_modules) == (spec.r, 1.0, TARGET_MODULES)


def test_high_is_the_default():
    assert configure_lora_for_rl(64) == configure_lora_for_rl(64, "high") == LoraSpec(r=64, alpha=64)


@pytest.mark.parametrize("ceiling", [0, -8])
def test_a_ceiling_below_one_is_refused(ceiling):
    with pytest.raises(ValueError, match=f"max_lora_rank={ceiling}; allowed: 1 or more"):
        configure_lora_for_rl(ceiling, "normal")


def test_rslora_scales_by_the_root_of_r():
    assert LoraSpec(r=16, alpha=32).scaling == 2
    assert LoraSpec(r=16, alpha=32, use_rslora=True).scaling == 32 / math.sqrt(16)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["unsloth_policy", "peft_policy"])
def test_the_rule_wraps_a_model_through_either_policy(policy, request):
    from objectives.memory.config_files import find_config
    from objectives.memory.exact import trainer_memory
    from objectives.memory.shape import read_shape
    from objectives.policies.rl import wrap_for_rl

    policy = request.getfixturevalue(policy)
    model = wrap_for_rl(policy, 64, "normal", seed=3)
    try:
        assert model.peft_config["default"].r == model.peft_config["default"].lora_alpha == 32
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        assert trained == trainer_memory(read_shape(find_config("shipped/tiny")), 32).parameters
    finally:
        policy.release()


def test_the_command_answers_rule_and_memory_for_a_model_without_a_study(tmp_path):
    done = sweep("lora", "unsloth/Llama-3.2-1B-Instruct", "--max-lora-rank", "64", "--json", cwd=tmp_path)
    answer = json.loads(done.stdout)
    assert answer.keys() == {"model", "lora", "engine", "trainer", "base"}
    assert answer["lora"] == {
        "task_complexity": "high", "r": 64, "alpha": 64, "target_modules": list(TARGET_MODULES), "scaling": 1.0,
    }  # fmt: skip
    # Each of the seven stacks of 16 layers, then embeddings and logits: R x (inputs + outputs) x 2 bytes.
    linears = 16 * 64 * 2 * (2 * (2048 + 2048) + 2 * (2048 + 512) + 3 * (2048 + 8192))
    assert answer["engine"]["restricted_bytes"] == linears
    assert answer["engine"]["unrestricted_bytes"] == linears + 2 * 64 * 2 * (128256 + 2048)
    assert answer["engine"]["textbook_bytes"] == 2 * 64 * 2048 * 16 * 2
    assert answer["trainer"]["bytes"] == 16 * answer["trainer"]["parameters"] == 16 * 16 * 64 * 44032
    assert list(tmp_path.iterdir()) == []


def test_the_command_rounds_the_ceiling_up_and_the_rule_does_not(tmp_path):
    arguments = ["--max-lora-rank", "48", "--task-complexity", "normal", "--max-loras", "4", "--dtype", "float32"]
    done = sweep("lora", "shipped/tiny", *arguments, "--json", cwd=tmp_path)
    answer = json.loads(done.stdout)
    assert (answer["lora"]["r"], answer["engine"]["engine_max_lora_rank"]) == (24, 64)
    # The figure that a live engine of the shipped policy allocates.
    assert answer["engine"]["restricted_bytes"] == 4194304


def test_the_command_prints_a_call_to_paste_in_80_columns(tmp_path):
    done = sweep("lora", "shipped/tiny", "--max-lora-rank", "64", cwd=tmp_path, env={"COLUMNS": "80"})
    assert "start from r=64, alpha=64 (task complexity high)" in done.stdout
    assert "model, r=64, lora_alpha=64," in done.stdout
    assert "8.8 times less" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch/model", "--max-lora-rank", "64"], "no config.json for 'nosuch/model'"),
        (["./nosuch", "--max-lora-rank", "64"], "no config.json for './nosuch'"),
        (["shipped/nosuch", "--max-lora-rank", "64"], "no config.json for 'shipped/nosuch'"),
        (["x" * 5000, "--max-lora-rank", "64"], "no config.json for"),
        (["shipped/tiny", "--max-lora-rank", "513"], "exceeds every ceiling that vLLM permits; allowed: up to 512"),
        (["shipped/tiny", "--max-lora-rank", "0"], "Invalid value for '--max-lora-rank'"),
        (["shipped/tiny", "--max-lora-rank", "64", "--max-loras", "0"], "Invalid value for '--max-loras'"),
        (["shipped/tiny", "--max-lora-rank", "64", "--task-complexity", "hihg"], "Invalid value for '--task-comp"),
        (["shipped/tiny"], "Missing option '--max-lora-rank'"),
    ],
)
def test_a_mistake_is_exit_code_2_and_one_line(arguments, message, tmp_path):
    done = sweep("lora", *arguments, cwd=tmp_path, env={"HF_HUB_CACHE": str(tmp_path / "cache")})
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_rule_loads_nothing_heavy():
    program = f"import sys, objectives.lora; print([m for m in {HEAVY!r} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
