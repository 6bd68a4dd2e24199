"""More held-out prompts or more seeds: said by what each takes away and costs."""

import math
from dataclasses import replace

import optuna
import pytest

from sweep.answer.evaluation_noise import noise_sentence
from sweep.storage import attributes
from tests.test_plots import BASE


def search(share=None):
    """A search whose trials took this share of their time to be scored."""
    study = optuna.create_study()
    seconds = {"train": 1.0} if share is None else {"train": 1 - share, "evaluate": share}
    for _ in range(3):
        study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={attributes.COST: {"seconds": seconds}}))
    return study


def test_prompts_come_first_where_scoring_is_most_of_the_noise():
    said = noise_sentence(search(0.1), BASE, 0.015)
    assert said == (
        "A score's noise between seeds is 0.015; 1,024 held-out prompts alone make 0.013 of it. Twice the prompts are "
        "worth 1.7 times the seeds, in trials 18 % longer: more prompts come first."
    )


def test_seeds_come_first_where_training_is_most_of_it():
    said = noise_sentence(search(0.5), BASE, 0.1)
    assert "worth 1.0 times the seeds, in trials 67 % longer: more seeds come first" in said


def test_noise_below_that_of_scoring_is_all_of_scoring():
    assert "about 0.013, so all of it. Twice the prompts are worth 2.0 times" in noise_sentence(search(0.1), BASE, 0.01)


@pytest.mark.parametrize("noise", [math.nan, math.inf, 0.0])
def test_nothing_is_said_where_the_noise_is_not_known(noise):
    assert noise_sentence(search(0.1), BASE, noise) == ""


def test_nothing_is_said_without_a_spread_or_the_time_of_scoring():
    assert noise_sentence(search(), BASE, 0.1) == ""
    assert noise_sentence(search(0.1), replace(BASE, spread=None), 0.1) == ""
    assert noise_sentence(search(0.1), None, 0.1) == ""
