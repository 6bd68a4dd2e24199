"""RLOO and REINFORCE++ in packs: against TRL's RLOOTrainer on the same samples, and against the paper's formula."""

import math
import tempfile

import pytest
import torch
from transformers import AutoTokenizer

from objectives.learners.packed.advantages import advantages, groups_with_signal
from objectives.learners.packed.grpo import Objective, token_loss
from objectives.settings.sections import SHIPPED_MODELS
from sweep.errors import StudyFileError
from sweep.study.reading import load_study
from tests.support.packed import Recorded, differences, reward
from tests.support.packed_steps import ADVANTAGES, LORAS, RATES, packed_with


def rloo_run(model, recorded, *, steps, learning_rate, iterations, micro_batch_size, **config):
    """Trains a PEFT model with TRL's RLOOTrainer on recorded samples; returns what it logged for each step."""
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    n = recorded.prompts * recorded.group
    micro = micro_batch_size or n
    with tempfile.TemporaryDirectory() as folder:
        trainer = RLOOTrainer(
            model=model,
            args=RLOOConfig(
                output_dir=folder, max_steps=steps, per_device_train_batch_size=micro, use_cpu=True, bf16=False,
                gradient_accumulation_steps=n // micro, steps_per_generation=n // micro, beta=0.0,
                num_generations=recorded.group, num_iterations=iterations, learning_rate=learning_rate,
                gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
                lr_scheduler_type="constant", optim="adamw_torch", max_completion_length=recorded.longest_completion,
                **config,
            ),
            reward_funcs=[reward],
            train_dataset=Dataset.from_list([{"prompt": "A:abcd>"} for _ in range(64)]),
            processing_class=AutoTokenizer.from_pretrained(SHIPPED_MODELS / "tiny", padding_side="left"),
        )  # fmt: skip
        rollouts = iter(range(steps))

        def tokenize(prompts):
            trainer.rollout = recorded.rollout(next(rollouts))
            return trainer.rollout[0], None, {}

        trainer._tokenize_prompts = tokenize
        trainer._generate_single_turn = lambda *_: trainer.rollout[1]
        trainer.train()
        return [log for log in trainer.state.log_history if "loss" in log]


@pytest.mark.parametrize(("iterations", "micro_batch_size"), [(1, None), (2, None), (2, 8)])
def test_weights_after_several_steps_of_rloo_are_those_of_TRL_alone(iterations, micro_batch_size):
    trials = [Recorded(seed=k, equal_prompts=True) for k in range(2)]
    options = {"epsilon": 0.05, "num_iterations": iterations, "micro_batch_size": micro_batch_size}
    packed, models, measured = packed_with(trials, {"algorithm": "rloo", **options})
    for k, model in enumerate(models):
        logs = rloo_run(
            model, trials[k], steps=4, learning_rate=RATES[k], iterations=iterations, epsilon=0.05, max_grad_norm=1.0,
            micro_batch_size=micro_batch_size,
        )  # fmt: skip
        assert differences(packed, k, model, LORAS[k].r) < ADVANTAGES
        for log, (ours, _) in zip(logs, measured, strict=True):
            assert ours.loss[k] == pytest.approx(log["loss"], abs=1e-5)
            assert ours.grad_norm[k] == pytest.approx(log["grad_norm"], rel=1e-5)
            assert ours.clip_ratio[k] == pytest.approx(log["clip_ratio/region_mean"], abs=1e-6)
    assert any(ours.clip_ratio[0] > 0 for ours, _ in measured) == (iterations > 1)


def goal(algorithm, **options):
    return Objective(
        **{"algorithm": algorithm, "loss_type": "dapo", "group_size": 3, "max_completion_tokens": 4} | options
    )


def test_rloo_compares_with_the_others_of_a_group():
    rewards = torch.tensor([[1.0, 2.0, 6.0, 5.0, 5.0, 5.0], [0.0, 1.0, math.nan, math.nan, math.nan, 1.0]])
    values, silent = advantages(rewards, goal("rloo"))
    assert values.tolist() == [[-3.0, -1.5, 4.5, 0.0, 0.0, 0.0], [-1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]
    assert silent.tolist() == [0.5, 0.0]


def test_reinforce_plus_plus_compares_with_the_whole_batch_of_the_trial():
    """Hu et al., 2025: each trial's rewards less their mean, by their standard deviation, in float64."""
    rewards = torch.tensor([[1.0, 2.0, 6.0, 5.0, 5.0, 5.0], [0.0, 1.0, 2.0, 3.0, math.nan, 4.0]], dtype=torch.float64)
    values, silent = advantages(rewards, goal("reinforce_plus_plus"))
    for ours, own in zip(values, rewards, strict=True):
        there = own[~own.isnan()]
        expected = (own - there.mean()) / (there.std() + 1e-4)
        torch.testing.assert_close(ours, expected.nan_to_num(0.0), rtol=0, atol=1e-12)
    assert silent.tolist() == [0.5, 0.0]  # and yet the second group says something: it is better than the first
    assert groups_with_signal(values, goal("reinforce_plus_plus"))[1].tolist() == [[1, 1], [1, 1]]


def test_one_step_of_reinforce_plus_plus_has_the_papers_gradient():
    """-A grad log p of each token, a mean over all tokens of the batch, where the policy is still the sampler's."""
    generator = torch.Generator().manual_seed(0)
    new = torch.randn(1, 6, 4, generator=generator, dtype=torch.float64).requires_grad_()
    advantage, mask = torch.randn(1, 6, generator=generator, dtype=torch.float64), torch.ones(1, 6, 4)
    objective = goal("reinforce_plus_plus")
    token_loss(new=new, old=new.detach(), mask=mask, advantage=advantage, objective=objective).loss.mean().backward()
    torch.testing.assert_close(new.grad, (-advantage / 24).unsqueeze(2).expand_as(new), rtol=0, atol=1e-12)


def test_every_group_has_a_say_where_entropy_is_rewarded():
    silent = torch.zeros(1, 6)
    assert groups_with_signal(silent, goal("grpo", entropy_coef=0.1))[0].tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["name=trl", "algorithm=rloo"], "algorithm='rloo' needs name = 'packed': TRL's GRPO.*allowed: 'grpo'"),
        (["name=trl", "algorithm=reinforce_plus_plus"], "algorithm='reinforce_plus_plus' needs name = 'packed'"),
        (["algorithm=rloo", "loss_type=grpo"], "loss_type='grpo' with algorithm='rloo'.*allowed: 'dapo'"),
        (["algorithm=rloo", "beta=0.1"], "beta=0.1 with algorithm='rloo'.*allowed: 0.0"),
        (["algorithm=rloo", "importance_sampling_correction=token_mask"], "with algorithm='rloo', which has none"),
        (["algorithm=reinforce_plus_plus", "scale_rewards=none"], "scale_rewards='none' with algorithm='reinforce_"),
        (["algorithm=ppo"], "algorithm.*'reinforce_plus_plus'.*given: 'ppo'"),
        (["loss_type=cispo"], "'cispo' with epsilon_high=None; allowed: a bound of the ratio, as 5.0"),
        (["loss_type=cispo", "epsilon_high=5", "delta=7"], "delta=7 does nothing with loss_type='cispo'"),
        (["entropy_coef=-1"], "entropy_coef.*greater than or equal to 0"),
    ],
)
def test_what_an_algorithm_leaves_no_choice_of_is_refused_by_name(overrides, message):
    with pytest.raises(StudyFileError, match=message):
        load_study("tiny", [f"learner.{override}" for override in overrides])
