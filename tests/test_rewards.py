import asyncio
import inspect
import math
import re
import signal
import sys
import threading
import time
from collections import deque

import numpy as np
import pytest

from objectives.errors import RewardError, TaskError
from objectives.rewards.calling import RewardSet, make_rewards, unscored
from objectives.rewards.checked import checked
from objectives.settings.tasks import StringOpsSettings
from objectives.tasks.string_ops import StringOps


def totals(rewards, *given):
    """Each completion's reward."""
    return rewards.weigh(rewards.table(*given))


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
        ([10**400, 1.0], "returned 'a number beyond every float' for completion 0"),
        (["good", 1.0], "returned 'good' for completion 0"),
        ([[1.0], [2.0]], r"returned \[1\.0\] for completion 0"),
        ([np.array([1.0]), np.array([2.0])], r"returned array\(\[1\.\]\) for completion 0"),
        (None, "returned None; allowed: a list with one number, or None, for each of the 2 completions"),
        (1.0, "returned a float; allowed: a list"),
        ("ab", "returned a str; allowed: a list"),
        ({"a": 1.0, "b": 2.0}, "returned a dict; allowed: a list"),
        ({1.0, 2.0}, "returned a set; allowed: a list"),
        ((x for x in (1.0, 2.0)), "returned a generator; allowed: a list"),
        (map(float, "12"), "returned a map; allowed: a list"),
        ({1.0: 0, 2.0: 0}.keys(), "returned a dict_keys; allowed: a list"),
        (np.array([[1.0], [2.0]]), r"returned an array of shape \(2, 1\); allowed: a list"),
        (np.float64(1.0), r"returned an array of shape \(\); allowed: a list"),
    ],
    ids=lambda value: re.sub(r" at 0x.*", "", str(value))[:40],
)
def test_a_breach_of_contract_is_named_and_never_becomes_a_reward(values, message):
    with pytest.raises(RewardError, match=f"reward named {message}"):
        checked(reward(values))(prompts=["p", "p"], completions=["a", "b"])


def test_whatever_holds_one_number_for_each_completion_is_taken():
    import pandas as pd
    import torch

    for values in (
        [0.5, 1],
        (0.5, True),
        deque([0.5, 1.0]),
        [np.float32(0.5), np.int64(1)],
        np.array([0.5, 1.0]),
        torch.tensor([0.5, 1.0], requires_grad=True),
        [torch.tensor(0.5), torch.tensor(1)],
        pd.Series([0.5, 1.0], index=[7, 3]),
    ):
        assert checked(reward(values))(prompts=["p"] * 2, completions=["a", "b"]) == [0.5, 1.0]
    assert checked(reward([1, None]))(prompts=["p", "p"], completions=["a", "b"]) == [1, None]


def test_a_checked_reward_keeps_its_name_or_gets_another():
    class Scorer:
        def __call__(self, completions, **columns):
            return [0.0 for _ in completions]

    from functools import partial

    assert checked(reward([])).__name__ == "named"
    assert checked(Scorer()).__name__ == "Scorer"
    assert checked(partial(reward([]), x=1)).__name__ == "named"
    assert checked(Scorer(), name="mine:first").__name__ == "mine:first"


ROWS = [{"prompt": "p", "answer": "x"}, {"prompt": "q", "answer": "y"}]
IDS = [[1], [2]]


def rewards(*functions, weights):
    return RewardSet(functions=tuple(map(checked, functions)), weights=weights)


def test_rewards_are_weighted_and_one_that_does_not_apply_is_left_out():
    both = rewards(reward([1.0, None]), reward([0.5, 0.5]), weights=(1.0, 2.0))
    assert totals(both, ROWS, ["a", "b"], IDS) == [2.0, 1.0]


def test_a_completion_that_no_reward_applies_to_has_none_and_is_counted():
    found = totals(rewards(reward([1.0, None]), weights=(1.0,)), ROWS, ["a", "b"], IDS)
    assert found[0] == 1.0
    assert math.isnan(found[1])
    assert str(unscored(ROWS, found)) == (
        "1 of 2 completions have no reward (every function returned None), one to 'q'"
    )
    assert unscored(ROWS, [1.0, 2.0]) is None


def test_reward_functions_get_every_column_and_what_trl_adds_by_name():
    seen = {}

    def look(prompts, completions, answer, completion_ids, trainer_state, log_extra, log_metric):
        seen.update(answer=answer, prompts=prompts, completions=completions, ids=completion_ids)
        seen.update(step=trainer_state.global_step, progress=trainer_state.global_step / trainer_state.max_steps)
        log_extra("note", ["x", "y"])
        log_metric("m", 1.0)
        return [0.0, 0.0]

    totals(rewards(look, weights=(1.0,)), ROWS, ["a", "b"], IDS)
    assert seen == {
        "prompts": ["p", "q"],
        "completions": ["a", "b"],
        "answer": ["x", "y"],
        "ids": IDS,
        "step": 0,
        "progress": 0.0,
    }


def test_rows_of_a_tasks_own_making_may_lack_columns():
    def look(completions, answer, hint, **columns):
        return [float(a == "x") + float(h is None) for a, h in zip(answer, hint, strict=True)]

    uneven = [{"prompt": "p", "answer": "x"}, {"prompt": "q", "answer": "y", "hint": "z"}]
    assert totals(rewards(look, weights=(1.0,)), uneven, ["a", "b"], IDS) == [2.0, 0.0]


def test_a_call_can_change_nothing_that_others_see():
    row = {"prompt": [{"role": "user", "content": "p"}], "facts": {"a": [1]}, "tags": ["x"]}
    chat = [[{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "b"}]]
    seen = []

    def meddler(prompts, completions, completion_ids, facts, tags, **columns):
        seen.append((prompts[1], completions[1], completion_ids[1], facts[1], tags[1]))
        for i in range(len(prompts)):
            prompts[i].append({"role": "system", "content": f"{i}"})
            prompts[i][0]["content"] = "changed"
            completions[i][0]["content"] = "changed"
            completion_ids[i].append(9)
            facts[i]["a"].append(2)
            tags[i].clear()
        prompts.clear()
        return [float(len(tags) + len(facts[0]["a"]))] * 2

    both = rewards(meddler, meddler, weights=(1.0, 1.0))
    ids = [[1], [2]]
    # The same row twice, as in a group: what is done to the first is not done to the second.
    first = totals(both, [row, row], chat, ids)
    assert totals(both, [row, row], chat, ids) == first == [8.0, 8.0]
    assert row == {"prompt": [{"role": "user", "content": "p"}], "facts": {"a": [1]}, "tags": ["x"]}
    assert [message["content"] for [message] in chat] == ["a", "b"]
    assert ids == [[1], [2]]
    assert len(seen) == 4


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
    with pytest.raises(RewardError, match=r"took longer than reward_timeout_s=0\.2 for 1 completions"):
        checked(slow_async if is_async else slow, timeout_s=0.2)(prompts=["p"], completions=["a"])
    assert time.monotonic() - began < 3


class AlarmError(Exception):
    pass


def with_alarm(seconds, sleep, leave=False):
    """What rewards with time limits of their own do: SIGALRM, put back afterwards or not."""

    def ring(*_):
        raise AlarmError("too long")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        time.sleep(sleep)
    except AlarmError:
        return 0.0
    finally:
        if not leave:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    return 1.0


def test_a_reward_may_use_alarms_and_is_interrupted_all_the_same():
    def timed(completions, **columns):
        return [with_alarm(0.05, sleep=2.0 if completion == "slow" else 0.0) for completion in completions]

    assert checked(timed, timeout_s=5)(prompts=["p"] * 2, completions=["slow", "fast"]) == [0.0, 1.0]

    def hangs(completions, **columns):
        with_alarm(0.05, sleep=1.0)
        time.sleep(5)
        return [1.0 for _ in completions]

    with pytest.raises(RewardError, match="took longer"):
        checked(hangs, timeout_s=0.5)(prompts=["p"], completions=["a"])


def test_an_alarm_that_a_reward_leaves_set_goes_off_nowhere_else():
    def forgets(completions, **columns):
        return [with_alarm(0.2, sleep=0.0, leave=True) for _ in completions]

    before = signal.getsignal(signal.SIGALRM)
    assert checked(forgets)(prompts=["p"], completions=["a"]) == [1.0]
    assert signal.getsignal(signal.SIGALRM) is before
    time.sleep(0.4)


def test_a_limit_that_expires_late_interrupts_nothing():
    function = checked(reward([1.0]), timeout_s=2.0)
    for _ in range(50):
        assert function(prompts=["p"], completions=["a"]) == [1.0]
    time.sleep(2.2)
    assert threading.active_count() < 20


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        (lambda: sys.exit(3), "raised SystemExit: 3"),
        (lambda: (_ for _ in ()).throw(KeyboardInterrupt), "raised KeyboardInterrupt"),
        (lambda: {}["target"], "raised KeyError: 'target'; the columns are: answer"),
        (lambda: 1 / 0, "raised ZeroDivisionError: division by zero$"),
    ],
)
def test_a_reward_that_ends_is_named_however_it_does(ending, message):
    def ends(completions, **columns):
        ending()

    with pytest.raises(RewardError, match=f"reward ends {message}"):
        checked(ends)(prompts=["p"], completions=["a"], completion_ids=[[1]], answer=["x"])


MODULE = """
class Judge:
    def __init__(self, value):
        self.value = value
    def __call__(self, completions, **columns):
        return [self.value] * len(completions)

def make(value):
    def inner(completions, **columns):
        return [value] * len(completions)
    return inner

first = lambda completions, **columns: [1.0] * len(completions)
second = lambda completions, **columns: [2.0] * len(completions)
third, fourth = Judge(3.0), Judge(4.0)
fifth, sixth = make(5.0), make(6.0)
limit = 3

def asks(completions, target, hint, **columns): ...
def shut(completions, prompts, answer): ...
async def later(completions, target, **columns): ...
class Kind:
    def __call__(self, completions, **columns): ...
def ordered(completions, /, **columns): ...
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "named_rewards", raising=False)
    (tmp_path / "named_rewards.py").write_text(MODULE)
    (tmp_path / "other_rewards.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("named_rewards", "other_rewards"):
        sys.modules.pop(name, None)


def settings(**changes):
    return StringOpsSettings(name="string_ops", **changes)


def test_functions_are_told_apart_by_what_the_study_calls_them(folder):
    names = ["first", "second", "third", "fourth", "fifth", "sixth"]
    made = make_rewards(StringOps(symbols=1), settings(reward=[f"named_rewards:{name}" for name in names]), [folder])
    assert made.names == tuple(names)
    assert [column[0] for column in made.table(ROWS, ["a", "b"], IDS)] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    same = settings(reward=["named_rewards:first", "other_rewards:first"])
    assert make_rewards(StringOps(symbols=1), same, [folder]).names == ("named_rewards:first", "other_rewards:first")
    aliases = settings(
        reward={"accuracy": "named_rewards:first", "again": "named_rewards:first"}, reward_weights=[1, 2]
    )
    made = make_rewards(StringOps(symbols=1), aliases, [folder])
    assert made.names == ("accuracy", "again")
    assert totals(made, ROWS, ["a", "b"], IDS) == [3.0, 3.0]


def test_a_tasks_own_functions_of_one_name_are_numbered(folder):
    class Twins(StringOps):
        reward_functions = (reward([1.0, 1.0]), reward([2.0, 2.0]))
        reward_weights = (1.0, 1.0)

    assert make_rewards(Twins(symbols=1), settings(), []).names == ("named", "named_2")
    assert make_rewards(StringOps(symbols=1), settings(), []).names == ("exact_match",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("limit", "named_rewards:limit is a int; allowed: a function"),
        ("Kind", "reward Kind is a class; allowed: a function, or an object that can be called"),
        ("ordered", "reward ordered takes 'completions' by position alone, and TRL passes everything by keyword"),
        ("asks", "reward asks asks for 'target', 'hint', and there is no such column; the columns are: answer"),
        ("later", "reward later asks for 'target', and there is no such column"),
        ("shut", r"reward shut does not take 'completion_ids', .*which TRL passes by keyword; end .* \*\*kwargs"),
    ],
)
def test_what_cannot_be_called_with_the_tasks_columns_is_named_with_those(folder, name, message):
    with pytest.raises(TaskError, match=message):
        make_rewards(StringOps(symbols=1), settings(reward=[f"named_rewards:{name}"]), [folder])


def test_a_function_named_twice_is_refused_with_how_to_do_it():
    with pytest.raises(ValueError, match=r"reward names 'm:f' twice; to use it twice, name each use"):
        settings(reward=["m:f", "m:f"])
    assert settings(reward="m:f").named_rewards() == {"f": "m:f"}


def test_a_reward_can_change_nothing_of_the_trainers_state():
    from transformers import TrainerState

    def pen(completions, trainer_state, **_):
        trainer_state.global_step = trainer_state.max_steps = 10**9
        return [0.0] * len(completions)

    state = TrainerState(global_step=3, max_steps=5)
    checked(pen)(prompts=["p"], completions=["a"], trainer_state=state)
    assert (state.global_step, state.max_steps) == (3, 5)


def test_rewards_too_large_to_add_up_are_refused():
    both = RewardSet(functions=(checked(reward([1e308])),) * 2, weights=(1.0, 1.0))
    with pytest.raises(RewardError, match="add up to more than a number can hold"):
        both.weigh([[1e308], [1e308]])
