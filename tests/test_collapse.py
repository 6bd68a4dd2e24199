import pytest

from objectives.trial import StepMetrics
from sweep.collapse import CollapseMonitor, collapse_floor


def step(number, reward, silent=0.0, **changes):
    return StepMetrics(
        **{
            "step": number, "reward": reward, "reward_std": 0.1, "groups_without_signal": silent,
            "completion_length": 5.0, "tokens": 640, "seconds": 0.2, **changes,
        }
    )  # fmt: skip


@pytest.fixture
def monitor():
    return CollapseMonitor(baseline=0.25, patience=3)


def test_a_policy_that_lost_its_reward_has_collapsed_after_patience_steps(monitor):
    verdicts = [monitor.observe(step(n, 0.0, silent=1.0)) for n in range(1, 4)]
    assert verdicts[:2] == [None, None]
    assert "collapsed at step 3: reward 0.000 against the base policy's 0.250" in verdicts[2]


def test_a_solved_task_is_silent_but_not_collapsed(monitor):
    assert all(monitor.observe(step(n, 1.0, silent=1.0)) is None for n in range(20))


def test_a_hard_task_that_starts_low_with_signal_is_not_collapsed(monitor):
    assert all(monitor.observe(step(n, 0.05, silent=0.5)) is None for n in range(20))


def test_one_good_step_begins_the_count_anew(monitor):
    rewards = [0.0, 0.0, 0.3, 0.0, 0.0]
    assert all(monitor.observe(step(n, r, silent=1.0)) is None for n, r in enumerate(rewards))


@pytest.mark.parametrize("name", ["reward", "loss", "grad_norm"])
def test_a_number_that_is_not_finite_ends_a_trial_at_once(monitor, name):
    metrics = step(4, 0.5) if name == "reward" else step(4, 0.5, **{name: float("nan")})
    if name == "reward":
        metrics = step(4, float("nan"))
    assert monitor.observe(metrics) == f"{name} is nan at step 4"


def test_the_floor_lies_below_the_base_policy_whatever_its_sign():
    assert collapse_floor(0.5) == 0.25
    assert collapse_floor(-1.0) == -1.5
