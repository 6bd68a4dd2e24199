"""The arithmetic of packed trials by itself: advantages, corrections, losses."""

import math

import torch
from trl.trainer.utils import nanstd

from objectives.engines.protocol import Completion
from objectives.learners.packed.advantages import advantages
from objectives.learners.packed.grpo import Objective, correction_weights, slot_losses
from objectives.learners.packed.rollouts import Samples
from objectives.learners.packed.scoring import to_batch


def test_advantages_leave_out_what_no_reward_applies_to():
    goal = Objective(loss_type="grpo", group_size=3, max_completion_tokens=4)
    rewards = torch.tensor([[1.0, 2.0, math.nan, 5.0, 5.0, 5.0], [0.0, 1.0, 2.0, math.nan, math.nan, 1.0]])
    values, silent = advantages(rewards, goal)
    half = 0.5 / (math.sqrt(0.5) + 1e-4)
    expected = torch.tensor([[-half, half, 0, 0, 0, 0], [-1 / 1.0001, 0, 1 / 1.0001, 0, 0, 0]])
    torch.testing.assert_close(values, expected)
    assert silent.tolist() == [0.5, 0.0]


def test_a_group_with_a_single_reward_is_silent_where_trl_counts_it_so():
    rewards = torch.tensor([[math.nan, 1.0, math.nan], [2.0, 2.0, math.nan], [0.1, 0.1, 0.1], [0.0, 1.0, math.nan]])
    goal = Objective(loss_type="grpo", group_size=3, max_completion_tokens=4)
    values, silent = advantages(rewards.flatten()[None], goal)
    theirs = nanstd(rewards, dim=1)
    assert silent.item() == torch.isclose(theirs, torch.zeros_like(theirs)).float().mean().item() == 0.5
    assert values[0, :3].tolist() == [0.0, 0.0, 0.0]


def test_an_engine_that_gives_no_log_probabilities_is_not_corrected_for():
    goal = Objective(loss_type="dapo", group_size=2, max_completion_tokens=2, correction="token_truncate")
    completions = [Completion(token_ids=(5, 6)), Completion(token_ids=(7,))]
    samples = Samples(rows=[], prompts=[[3, 4]] * 2, completions=completions)
    batch, _ = to_batch([samples], torch.tensor([[0.0, 1.0]]), goal, pad=0, device=torch.device("cpu"))
    weights = correction_weights(torch.full((1, 2, 2), -3.0), batch.sampler_logprobs, batch.completion_mask, goal)
    assert weights[batch.completion_mask.bool()].tolist() == [1.0, 1.0, 1.0]


def test_a_token_without_a_log_probability_of_the_engine_is_not_corrected():
    goal = Objective(loss_type="dapo", group_size=2, max_completion_tokens=2, correction="token_truncate")
    trainer, sampler = torch.tensor([[-1.0, -1.0]]), torch.tensor([[math.nan, -9.0]])
    assert correction_weights(trainer, sampler, torch.ones(1, 2), goal).tolist() == [[1.0, 3.0]]


def test_the_losses_of_micro_batches_add_up_to_that_of_their_batch():
    generator = torch.Generator().manual_seed(0)
    loss, mask = torch.randn(2, 6, 4, generator=generator), torch.ones(2, 6, 4)
    mask[:, ::2, 2:] = 0
    total = mask.sum((1, 2))
    for loss_type in ("grpo", "dapo", "dr_grpo"):
        goal = Objective(loss_type=loss_type, group_size=3, max_completion_tokens=9)
        whole = slot_losses(loss, mask, completions=6, tokens=total, objective=goal)
        parts = [
            slot_losses(loss[:, i : i + 2], mask[:, i : i + 2], completions=6, tokens=total, objective=goal)
            for i in (0, 2, 4)
        ]
        torch.testing.assert_close(torch.stack(parts).sum(0), whole)
