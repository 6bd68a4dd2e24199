import math

import pytest

from objectives.errors import RewardError
from objectives.rewards import checked, total_rewards


def reward(values):
    def named(prompts, completions, **columns):
        return values

    return named


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], "returned 1 values for 2 completions"),
        ([1.0, math.nan], "returned nan for completion 1"),
        ([math.inf, 1.0], "returned inf for completion 0"),
        (["good", 1.0], "returned 'good' for completion 0"),
        (None, "raised TypeError"),
    ],
)
def test_a_breach_of_contract_is_named_and_never_becomes_a_reward(values, message):
    with pytest.raises(RewardError, match=message):
        checked(reward(values))(prompts=["p", "p"], completions=["a", "b"])


def test_a_checked_reward_keeps_its_name_and_its_values():
    function = checked(reward([1, None]))
    assert function.__name__ == "named"
    assert function(prompts=["p", "p"], completions=["a", "b"]) == [1, None]


class Task:
    def __init__(self, *functions, weights):
        self.reward_functions, self.reward_weights = functions, weights


ROWS = [{"prompt": "p", "answer": "x"}, {"prompt": "q", "answer": "y"}]


def test_rewards_are_weighted_and_one_that_does_not_apply_is_left_out():
    task = Task(reward([1.0, None]), reward([0.5, 0.5]), weights=(1.0, 2.0))
    assert total_rewards(task, ROWS, ["a", "b"], [[1], [2]]) == [2.0, 1.0]


def test_a_completion_that_no_reward_applies_to_is_an_error():
    task = Task(reward([1.0, None]), weights=(1.0,))
    with pytest.raises(RewardError, match="every reward function returned None for completion 1"):
        total_rewards(task, ROWS, ["a", "b"], [[1], [2]])


def test_reward_functions_get_every_column_but_the_prompt_by_name():
    seen = {}

    def look(prompts, completions, **columns):
        seen.update(columns, prompts=prompts, completions=completions)
        return [0.0, 0.0]

    total_rewards(Task(look, weights=(1.0,)), ROWS, ["a", "b"], [[1], [2]])
    assert seen == {
        "prompts": ["p", "q"], "completions": ["a", "b"], "answer": ["x", "y"], "completion_ids": [[1], [2]],
    }  # fmt: skip
