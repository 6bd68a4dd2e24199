from collections import Counter

import optuna
import pytest

from sweep.search.schedule import SearchSchedule, make_sampler, queue_again, trial_spec
from sweep.storage.attributes import DESIGN, REDONE, SEED
from sweep.study.reading import load_study


@pytest.fixture
def config():
    return load_study("tiny", ["search.points_per_rank=3", "space.learning_rate=[1e-3, 2e-3, 4e-3]"])


@pytest.fixture
def study(config):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=make_sampler(design_size=12, seed=0))


@pytest.fixture
def schedule(study, config):
    schedule = SearchSchedule(config)
    schedule.queue(study)
    return schedule


def run(study, schedule, n):
    trials = []
    for _ in range(n):
        trial = schedule.next_trial(study)
        trials.append(trial)
        study.tell(trial, 1.0 - abs(trial.params["r"] - 16) / 64)
    return trials


def test_the_design_comes_first_and_gives_every_rank_its_share(study, schedule):
    trials = run(study, schedule, 12)
    assert Counter(trial.params["r"] for trial in trials) == dict.fromkeys((1, 4, 16, 64), 3)
    assert all(trial.user_attrs[DESIGN] for trial in trials)


def test_the_design_is_queued_once(study, schedule):
    run(study, schedule, 5)
    schedule.queue(study)
    trials = run(study, schedule, 8)
    assert [DESIGN in trial.user_attrs for trial in trials] == [True] * 7 + [False]


def test_no_point_comes_twice_with_one_seed_and_none_passes_the_wall(study, schedule):
    trials = run(study, schedule, 40)
    assert len({(*sorted(trial.params.items()), trial.user_attrs[SEED]) for trial in trials}) == 40
    assert all(trial.params["r"] <= 64 and trial.params["alpha"] <= 64 for trial in trials)
    assert max(Counter(tuple(sorted(trial.params.items())) for trial in trials).values()) > 1


def test_repetition_k_of_a_point_has_seed_k(study, schedule):
    seeds = {}
    for trial in run(study, schedule, 40):
        seeds.setdefault(tuple(sorted(trial.params.items())), []).append(trial.user_attrs[SEED])
    assert all(repeats == list(range(len(repeats))) for repeats in seeds.values())


def test_a_lost_trial_comes_again_with_its_point_and_seed_before_the_rest_of_the_design(study, schedule):
    lost = schedule.next_trial(study)
    queue_again(study, study.trials[lost.number])
    lost.set_user_attr(REDONE, True)
    study.tell(lost, state=optuna.trial.TrialState.FAIL)
    schedule.queue(study)  # as a search that goes on does
    again, *_ = trials = run(study, schedule, 12)
    assert again.params == lost.params
    assert again.user_attrs[SEED] == lost.user_attrs[SEED]
    assert all(trial.user_attrs[DESIGN] for trial in trials)
    assert len({tuple(trial.params.items()) for trial in trials}) == 12


def test_a_spec_says_what_the_trial_sampled(study, schedule, config):
    trial = schedule.next_trial(study)
    spec = trial_spec(trial, config)
    assert (spec.lora.r, spec.lora.alpha, spec.learning_rate) == tuple(
        trial.params[name] for name in ("r", "alpha", "learning_rate")
    )
    assert spec.lora.scaling == spec.lora.alpha / spec.lora.r
