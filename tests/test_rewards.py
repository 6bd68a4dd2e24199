import asyncio
import inspect
import math
import time

import pytest

from objectives.errors import RewardError, TaskError
from objectives.rewards import RewardSet, checked, make_rewards
from objectives.task_settings import StringOpsSettings
from objectives.tasks.string_ops import StringOps


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


ROWS = [{"prompt": "p", "answer": "x"}, {"prompt": "q", "answer": "y"}]
IDS = [[1], [2]]


def rewards(*functions, weights):
    return RewardSet(functions=tuple(map(checked, functions)), weights=weights)


def test_rewards_are_weighted_and_one_that_does_not_apply_is_left_out():
    both = rewards(reward([1.0, None]), reward([0.5, 0.5]), weights=(1.0, 2.0))
    assert both.totals(ROWS, ["a", "b"], IDS) == [2.0, 1.0]


def test_a_completion_that_no_reward_applies_to_is_an_error():
    with pytest.raises(RewardError, match="every reward function returned None for completion 1"):
        rewards(reward([1.0, None]), weights=(1.0,)).totals(ROWS, ["a", "b"], IDS)


def test_reward_functions_get_every_column_and_what_trl_adds_by_name():
    seen = {}

    def look(prompts, completions, answer, completion_ids, trainer_state, log_extra, log_metric):
        seen.update(answer=answer, prompts=prompts, completions=completions, ids=completion_ids)
        log_extra("note", ["x", "y"])
        log_metric("m", 1.0)
        return [0.0, 0.0]

    rewards(look, weights=(1.0,)).totals(ROWS, ["a", "b"], IDS)
    assert seen == {"prompts": ["p", "q"], "completions": ["a", "b"], "answer": ["x", "y"], "ids": IDS}


def test_an_async_reward_is_awaited_on_one_loop_for_all_calls():
    loops = set()

    async def scored(prompts, completions, **columns):
        loops.add(id(asyncio.get_running_loop()))
        await asyncio.sleep(0)
        return [0.5 for _ in completions]

    function = checked(scored)
    assert not inspect.iscoroutinefunction(function)
    assert [function(prompts=["p"], completions=["a"]) for _ in range(3)] == [[0.5]] * 3
    assert len(loops) == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_a_call_over_its_time_limit_is_interrupted(is_async):
    def slow(prompts, completions, **columns):
        try:
            time.sleep(5)
        except Exception:
            return [0.0]
        return [1.0]

    async def slow_async(prompts, completions, **columns):
        await asyncio.sleep(5)
        return [1.0]

    began = time.monotonic()
    with pytest.raises(RewardError, match=r"took longer than reward_timeout_s=0\.2"):
        checked(slow_async if is_async else slow, timeout_s=0.2)(prompts=["p"], completions=["a"])
    assert time.monotonic() - began < 3


def test_numbers_of_numpy_and_torch_are_numbers():
    import numpy as np
    import torch

    assert checked(reward(np.array([0.5, 1.0])))(prompts=["p"] * 2, completions=["a", "b"]) == [0.5, 1.0]
    assert checked(reward(torch.tensor([0.5, 1.0])))(prompts=["p"] * 2, completions=["a", "b"]) == [0.5, 1.0]


def test_a_studys_own_functions_stand_in_for_the_tasks(tmp_path):
    (tmp_path / "my_rewards.py").write_text(
        "def first(prompts, completions, **columns): return [1.0] * len(completions)\n"
        "def second(prompts, completions, **columns): return [2.0] * len(completions)\n"
        "limit = 3\n"
    )
    task = StringOps(symbols=1)
    own = make_rewards(task, settings(), [])
    assert own.names == ("exact_match",)
    users = settings(reward=["my_rewards:first", "my_rewards:second"], reward_weights=[1.0, 0.5])
    assert make_rewards(task, users, [tmp_path]).totals(ROWS, ["a", "b"], IDS) == [2.0, 2.0]
    with pytest.raises(TaskError, match="my_rewards:limit is a int; allowed: a function"):
        make_rewards(task, settings(reward=["my_rewards:limit"]), [tmp_path])
    with pytest.raises(TaskError, match="share a name"):
        make_rewards(task, settings(reward=["my_rewards:first", "my_rewards:first"]), [tmp_path])


def settings(**changes):
    return StringOpsSettings(name="string_ops", **changes)
