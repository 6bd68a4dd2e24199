"""What TRL's trainer and Unsloth leave in a worker or say of a step beside what was asked."""

import os

import torch

from objectives.learners.trl_metrics import step_metrics
from objectives.learners.trl_side_effects import LAUNCHER, undone


def test_a_kl_that_nobody_penalises_is_not_reported():
    logs = {"reward": 1.0, "reward_std": 0.0, "frac_reward_zero_std": 0.0, "kl": 0.0}
    told = {"tokens": 1, "completion_length": 1.0, "seconds": 1.0, "unscored": None}
    assert step_metrics(1, logs, beta=0.0, **told).kl is None
    assert step_metrics(1, logs, beta=0.1, **told).kl == 0.0


def test_what_a_trainer_leaves_in_the_environment_is_taken_out_again(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    for name in LAUNCHER[1:]:
        monkeypatch.delenv(name, raising=False)
    with undone(torch.nn.Linear(1, 1)):
        os.environ.update(dict.fromkeys(LAUNCHER, "0"))
    assert [os.environ.get(name) for name in LAUNCHER] == ["3", None, None, None, None]
