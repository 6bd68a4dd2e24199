"""Two trials by Unsloth's trainer for GPUs, its kernels run by Triton's interpreter, and ranks in turn on one base."""

import pytest

from tests.spoofed_cuda import card
from tests.spoofed_cuda.test_configuration import DIFFERENT, UNSLOTHS_OWN

pytestmark = pytest.mark.spoofed


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the child process answers."""
    folder = tmp_path_factory.mktemp("training")
    return card.ask("training", folder, "unsloth", folder=folder)


@pytest.fixture(scope="module")
def told_by_trl(tmp_path_factory):
    """The same of TRL's own trainer and PEFT, on the processor."""
    folder = tmp_path_factory.mktemp("trl")
    return card.ask("training", folder, "trl", folder=folder)


def test_both_trials_train_every_matrix_of_their_adapters_and_leave_the_base_alone(told):
    assert told["failures"] == {}
    # 7 modules in each of 2 layers.
    assert told["moved"] == [[14, 14], [14, 14]]
    assert told["base"]
    assert told["formats"] == [["torch.float32"]] * 2


def test_rollouts_are_ours_and_of_the_budgets_size(told):
    assert told["asked"] == 0
    # Each trial: two steps of 2 x 2 completions, then 4 prompts sampled and greedy; the base policy's scores are kept.
    of_trials = [adapters for adapters in told["rollouts"] if adapters[0] is not None]
    assert of_trials == [[8] * 4] * 4 + [[64] * 4] * 4
    assert [step["tokens"] for _, step in told["steps"]] == [16, 32, 16, 32]


def test_a_step_reports_what_it_measured_and_nothing_that_it_did_not(told):
    assert [(number, step["step"]) for number, step in told["steps"]] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    for _, step in told["steps"]:
        assert step["reward"] > 0 and step["reward_std"] > 0 and step["grad_norm"] > 0
        assert step["rewards"] == {"spread": step["reward"]}
        assert (step["groups_without_signal"], step["clip_ratio"]) == (0.0, 0.0)
        assert abs(step["loss"]) < 1e-3
        # Unsloth logs no entropy, and a KL of zero where there is none.
        assert (step["entropy"], step["kl"]) == (None, None)


def test_the_gradient_is_trls_own_of_the_same_rollout(told, told_by_trl):
    """Unsloth has a loss of its own; that of another objective, or of other completions, would be another gradient."""
    ours, theirs = ([step for _, step in answer["steps"]] for answer in (told, told_by_trl))
    assert [step["reward"] for step in ours] == [step["reward"] for step in theirs]
    norms = [[step["grad_norm"] for step in steps] for steps in (ours, theirs)]
    # One computes in float16, the other in float32.
    assert norms[0] == pytest.approx(norms[1], rel=0.02)


def test_a_trial_leaves_no_trainer_and_no_launchers_variables(told):
    assert told["alive"] == [[], [False], [False, False]]
    # What Unsloth reads again and sets again in the next trial.
    own = {"ACCELERATE_MIXED_PRECISION", "UNSLOTH_RETURN_LOGITS", "UNSLOTH_RETURN_HIDDEN_STATES"}
    assert [left.keys() for left in told["left"]] == [set(), own, own]


def test_ranks_take_turns_on_one_base_and_one_engine(told):
    refused = "Unsloth: Your model already has LoRA adapters. Your new parameters are different."
    assert told["turns"] == [[r, r, refused, True, True] for r in (8, 64, 1)]


def test_a_wrapping_that_fails_leaves_a_bare_base(told):
    assert told["half_wrapped"] == []
    assert told["after_failure"]


def test_the_trainer_goes_by_the_configuration_that_it_was_given(told):
    first, second = told["arguments"]
    given = {"seed", "data_seed", "output_dir", "run_name", "logging_dir"}
    assert {name for name in first if first[name] != second[name]} <= given
    # The engine is on the model, so Unsloth has it used; TRL's rollouts would be by it.
    assert (first["use_vllm"], first["vllm_mode"]) == (True, "colocate")
    assert first["vllm_importance_sampling_correction"] is False
    assert not first["vllm_enable_sleep_mode"]
    assert (first["fp16"], first["bf16"], first["use_cpu"]) == (True, False, False)
    assert first["steps_per_generation"] == first["gradient_accumulation_steps"] == 1
    assert first.keys() >= DIFFERENT | UNSLOTHS_OWN
