from collections import Counter

import optuna
import pytest

from sweep.search import (
    DESIGN,
    REDONE,
    SEED,
    make_sampler,
    next_trial,
    queue_again,
    queue_design,
    trial_spec,
)
from sweep.study_file import load_study


@pytest.fixture
def config():
    return load_study("tiny", ["search.points_per_rank=3", "space.learning_rate=[1e-3, 2e-3, 4e-3]"])


@pytest.fixture
def study(config):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=make_sampler(design_size=12, seed=0))


def run(study, config, n):
    trials = []
    for _ in range(n):
        trial = next_trial(study, config)
        trials.append(trial)
        study.tell(trial, 1.0 - abs(trial.params["r"] - 16) / 64)
    return trials


def test_the_design_comes_first_and_gives_every_rank_its_share(study, config):
    queue_design(study, config)
    trials = run(study, config, 12)
    assert Counter(trial.params["r"] for trial in trials) == dict.fromkeys((1, 4, 16, 64), 3)
    assert all(trial.user_attrs[DESIGN] for trial in trials)


def test_the_design_is_queued_once(study, config):
    queue_design(study, config)
    run(study, config, 5)
    queue_design(study, config)
    assert len(study.trials) == 12


def test_no_point_comes_twice_with_one_seed_and_none_passes_the_wall(study, config):
    queue_design(study, config)
    trials = run(study, config, 40)
    assert len({(*sorted(trial.params.items()), trial.user_attrs[SEED]) for trial in trials}) == 40
    assert all(trial.params["r"] <= 64 and trial.params["alpha"] <= 64 for trial in trials)
    assert max(Counter(tuple(sorted(trial.params.items())) for trial in trials).values()) > 1


def test_repetition_k_of_a_point_has_seed_k(study, config):
    queue_design(study, config)
    seeds = {}
    for trial in run(study, config, 40):
        seeds.setdefault(tuple(sorted(trial.params.items())), []).append(trial.user_attrs[SEED])
    assert all(repeats == list(range(len(repeats))) for repeats in seeds.values())


def test_a_lost_trial_comes_again_with_its_point_and_seed(study, config):
    queue_design(study, config)
    lost = next_trial(study, config)
    queue_again(study, study.trials[lost.number])
    lost.set_user_attr(REDONE, True)
    study.tell(lost, state=optuna.trial.TrialState.FAIL)
    again = run(study, config, 12)[-1]
    assert again.params == lost.params
    assert again.user_attrs[SEED] == lost.user_attrs[SEED]
    assert again.user_attrs[DESIGN]


def test_a_spec_says_what_the_trial_sampled(study, config):
    queue_design(study, config)
    trial = next_trial(study, config)
    spec = trial_spec(trial, config)
    assert (spec.lora.r, spec.lora.alpha, spec.learning_rate) == tuple(
        trial.params[name] for name in ("r", "alpha", "learning_rate")
    )
    assert spec.lora.scaling == spec.lora.alpha / spec.lora.r
