import random
from dataclasses import replace

import pytest

from objectives.trial.messages import HeldOutScore, StepMetrics
from sweep.early_stopping.collapse_monitor import CollapseMonitor, is_lost, lost_on_held_out

BASE = HeldOutScore(step=0, sampled=0.25, greedy=0.3, prompts=1024, spread=0.43)
"""A policy that solves a quarter of its prompts."""
MAPS = [(0.01, 0.0), (1.0, 0.0), (100.0, 0.0), (1.0, -1000.0), (0.01, 1.0), (100.0, 1000.0), (1.0, -0.25)]


def step(number, reward, silent=0.0, **changes):
    return StepMetrics(
        **{
            "step": number, "reward": reward, "reward_std": 0.1, "groups_without_signal": silent,
            "completion_length": 5.0, "tokens": 640, "seconds": 0.2, **changes,
        }
    )  # fmt: skip


def watch(base=BASE, *, patience=3, prompts=16):
    return CollapseMonitor(base=base, patience=patience, prompts_per_step=prompts)


@pytest.fixture
def monitor():
    return watch()


def scaled(score, a, c):
    return replace(score, sampled=a * score.sampled + c, greedy=a * score.greedy + c, spread=a * score.spread)


def ends(rewards, *, base=BASE, silent=1.0, std=0.1, **more):
    """The step at which a trial with these rewards ends; None where it goes on."""
    monitor = watch(base, **more)
    told = [monitor.observe(step(n, reward, silent, reward_std=std)) for n, reward in enumerate(rewards, start=1)]
    return next((n for n, reason in enumerate(told, start=1) if reason), None)


def test_a_policy_that_lost_its_reward_has_collapsed_after_patience_steps(monitor):
    verdicts = [monitor.observe(step(n, 0.0, silent=1.0)) for n in range(1, 5)]
    assert verdicts[:2] == [None, None]
    assert "reward 0.000 against the base policy's 0.250, 100% of groups without signal" in verdicts[3]


def test_a_solved_task_is_silent_but_not_collapsed(monitor):
    assert all(monitor.observe(step(n, 1.0, silent=1.0)) is None for n in range(20))


def test_a_hard_task_that_starts_low_with_signal_is_not_collapsed(monitor):
    assert all(monitor.observe(step(n, 0.05, silent=0.5)) is None for n in range(20))


def test_one_good_step_begins_the_count_anew():
    assert ends([0.0, 0.0, 0.3, 0.0, 0.0], patience=3) is None


@pytest.mark.parametrize("name", ["reward", "loss", "grad_norm"])
def test_a_number_that_is_not_finite_ends_a_trial_at_once(monitor, name):
    metrics = step(4, float("nan")) if name == "reward" else step(4, 0.5, **{name: float("nan")})
    assert monitor.observe(metrics) == f"{name} is nan at step 4"


def test_steps_of_one_prompt_take_longer_to_show_a_collapse():
    # With one prompt a step, three rewards of 0 in a row are what three quarters of the prompts give anyway.
    assert ends([0.0] * 100, prompts=64) == 3
    assert ends([0.0] * 100, prompts=1) > 20


@pytest.mark.parametrize("level", [0.0, -7.5, 0.1, 1e6])
def test_a_constant_reward_cannot_collapse(level):
    base = HeldOutScore(step=0, sampled=level, greedy=level, prompts=256, spread=0.0)
    # As a tensor in single precision would have it.
    assert ends([level * (1 - 1e-7)] * 50, base=base) is None
    assert lost_on_held_out(replace(base, step=80, sampled=level * (1 - 1e-7)), base) is None


@pytest.mark.parametrize(("a", "c"), MAPS)
def test_a_collapse_has_no_units(a, c):
    base = scaled(BASE, a, c)
    for rewards in ([0.0] * 8, [0.02] * 8, [0.12] * 40, [0.2] * 40, [0.25] * 40):
        assert ends([a * reward + c for reward in rewards], base=base, std=0.1 * a) == ends(rewards)
    for sampled in (0.0, 0.05, 0.10, 0.14, 0.2, 0.25, 0.6):
        score = HeldOutScore(step=80, sampled=sampled, greedy=sampled, prompts=1024, spread=0.3)
        lost = lost_on_held_out(scaled(score, a, c), base)
        assert (lost is None) == (lost_on_held_out(score, BASE) is None)


HARD = HeldOutScore(step=0, sampled=0.05, greedy=0.04, prompts=1024, spread=0.218)
"""A policy that solves one prompt in twenty."""


@pytest.mark.parametrize(("a", "c"), MAPS)
def test_a_hard_task_that_lost_all_it_had_has_collapsed(a, c):
    base = scaled(HARD, a, c)
    score = HeldOutScore(step=80, sampled=0.0, greedy=0.0, prompts=1024, spread=0.0)
    assert lost_on_held_out(scaled(score, a, c), base) is not None
    assert lost_on_held_out(scaled(replace(score, sampled=0.03, greedy=0.03, spread=0.17), a, c), base) is None
    assert lost_on_held_out(replace(scaled(score, a, c), prompts=64), base) is None, "64 prompts may all fail by chance"
    assert ends([c] * 60, base=base, prompts=64, std=0.0) == ends([0.0] * 60, base=HARD, prompts=64, std=0.0)
    assert 3 < ends([0.0] * 60, base=HARD, prompts=64, std=0.0) < 20


def test_a_policy_that_is_sure_of_itself_on_every_prompt_has_not_lost_its_spread():
    # Groups are silent, and each prompt is solved or not: the scatter of the steps' means is all that shows it.
    rng = random.Random(0)
    solved = [sum(rng.random() < 0.2 for _ in range(16)) / 16 for _ in range(200)]
    assert ends(solved, prompts=16, std=0.0) is None


def test_a_reward_that_is_the_same_for_all_and_no_worse_has_not_collapsed():
    score = HeldOutScore(step=80, sampled=0.05, greedy=0.05, prompts=1024, spread=0.0)
    assert lost_on_held_out(score, HARD) is None
    assert lost_on_held_out(replace(score, sampled=1.0), HARD) is None


def test_a_base_policy_near_zero_is_no_collapse_by_itself():
    base = HeldOutScore(step=0, sampled=0.007, greedy=0.0, prompts=256, spread=0.98)
    assert lost_on_held_out(replace(base, sampled=-0.05, step=80), base) is None
    assert lost_on_held_out(replace(base, sampled=-0.99, step=80, spread=0.14), base) == (
        "collapsed: held-out reward -0.990 against the base policy's 0.007"
    )


def test_few_held_out_prompts_show_less():
    few, many = replace(BASE, prompts=16), replace(BASE, prompts=4096)
    score = HeldOutScore(step=80, sampled=0.08, greedy=0.0, prompts=16, spread=0.27)
    assert lost_on_held_out(score, few) is None
    assert lost_on_held_out(replace(score, prompts=4096), many) is not None


def test_a_policy_that_learned_to_be_punished_has_collapsed_though_the_base_policy_was_all_alike():
    base = HeldOutScore(step=0, sampled=0.0, greedy=0.0, prompts=256, spread=0.0)
    assert lost_on_held_out(replace(base, step=80, sampled=-1.0), base) is not None
    rarely = replace(base, step=80, sampled=-0.004, spread=0.06)
    assert lost_on_held_out(rarely, base) is None


def test_without_a_spread_the_floor_is_half_the_base_policys_reward():
    base = replace(BASE, spread=None)
    assert [is_lost(reward, base, spread=0.4, prompts=64) for reward in (0.124, 0.126)] == [True, False]
    assert ends([0.1] * 3, base=base) == 3
