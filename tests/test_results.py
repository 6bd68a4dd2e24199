"""Results as frames, and the bulk reading beneath them."""

import math

import optuna
import pandas as pd
import pytest
import sqlalchemy

from benchmarks.stored import multiply
from sweep.confirmation.naming import confirmation_name, horizon_name
from sweep.errors import StorageError
from sweep.results import load_results
from sweep.storage import attributes
from sweep.storage.attributes import REDONE, SEED
from sweep.storage.database import open_storage
from sweep.storage.trials import read_trials
from tests.support.command import sweep
from tests.test_plots import POINTS, stored_study


@pytest.fixture
def url(tmp_path):
    stored_study(tmp_path)
    return f"sqlite:///{tmp_path}/rank-sweep.db"


def load(url, name="tiny"):
    return optuna.load_study(study_name=name, storage=open_storage(url, create=False))


def test_bulk_reading_gives_what_optuna_gives_but_for_the_steps(url):
    study = load(url)
    study.enqueue_trial({"r": 1}, user_attrs={SEED: 3})
    running = study.ask()
    running.suggest_float("x", 0.5, 2, log=True)
    running.report(0.3, 1)
    study.tell(study.ask(), math.inf)
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    pruned = study.ask()
    pruned.report(0.1, 1)
    study.tell(pruned, state=optuna.trial.TrialState.PRUNED)
    expected = study.get_trials()
    for trial in expected:
        trial.intermediate_values = {}
    assert read_trials(study) == expected
    assert {trial.state.name for trial in expected} == {"COMPLETE", "RUNNING", "FAIL", "PRUNED"}


def test_bulk_reading_tells_studies_of_one_storage_apart(url):
    other = optuna.create_study(study_name="other", storage=open_storage(url, create=False))
    other.tell(other.ask(), 1.0)
    assert [trial.value for trial in read_trials(other)] == [1.0]
    assert len(read_trials(load(url))) == len(POINTS)


def test_bulk_reading_of_a_study_in_memory(tmp_path):
    study = optuna.create_study()
    study.tell(study.ask(), 2.0)
    assert [trial.value for trial in read_trials(study)] == [2.0]


def test_one_row_a_trial(url):
    trials = load_results(url, "tiny").trials
    assert list(zip(trials.r, trials.alpha, trials.learning_rate, trials.held_out, strict=True)) == POINTS
    assert trials.collapsed.tolist() == [False] * 4 + [True]
    assert set(trials.study) == {"tiny"} and set(trials.phase) == {"search"}
    assert trials.held_out_greedy.tolist() == pytest.approx([value + 0.1 for *_, value in POINTS])
    assert (trials.steps == 6).all() and (trials.tokens == 3840).all() and (trials.seconds_train == 1).all()
    assert trials.seed.tolist() == list(range(5)) and trials.design.sum() == 4
    assert pd.api.types.is_datetime64_any_dtype(trials.started)


def test_one_row_a_step_with_its_trial_beside_it(url):
    steps = load_results(url, "tiny").steps
    assert len(steps) == 6 * len(POINTS)
    second = steps[steps.trial == 1]
    assert second.step.tolist() == [1, 2, 3, 4, 5, 6]
    assert second.reward.tolist() == pytest.approx([0.5 * s / 6 for s in range(1, 7)], rel=1e-5)
    assert second["reward:exact"].tolist() == second.reward.tolist()
    assert set(second.r) == {1} and set(second.alpha) == {32} and set(second.seed) == {1}
    assert second.held_out.dropna().to_dict() == {second.index[-1]: 0.5}


def test_confirmation_is_a_phase_and_lost_trials_are_left_out(url):
    study = load(url)
    confirmation = optuna.create_study(study_name=confirmation_name("tiny"), storage=open_storage(url, create=False))
    confirmation.set_user_attr("config", study.user_attrs["config"])
    confirmation.tell(confirmation.ask(), 1.0)
    lost = study.ask()
    lost.set_user_attr(REDONE, True)
    study.tell(lost, state=optuna.trial.TrialState.FAIL)
    trials = load_results(url).trials
    assert trials.phase.value_counts().to_dict() == {"search": 5, "confirm": 1}
    assert set(trials.study) == {"tiny"}


def test_a_longer_horizon_is_a_phase_of_its_own(url, tmp_path):
    for name in (confirmation_name("tiny"), horizon_name(confirmation_name("tiny"), 160)):
        stored = optuna.create_study(study_name=name, storage=open_storage(url, create=False))
        stored.set_user_attr("config", load(url).user_attrs["config"])
        stored.tell(stored.ask(), 1.0)
    assert load_results(url, "tiny").trials.phase.value_counts().to_dict() == {
        "search": 5,
        "confirm": 1,
        "160 steps": 1,
    }
    phases = ("search", "confirm", "earlier", "longer")
    listed = {
        phase: sweep("trials", "tiny", "--phase", phase, "--storage", url, cwd=tmp_path).stdout for phase in phases
    }
    assert " c160s/0 " in listed["longer"] and " c0 " not in listed["longer"]
    assert "c160s" not in listed["confirm"] + listed["earlier"] + listed["search"]


def test_a_study_without_trials_gives_empty_frames(url):
    study = optuna.create_study(study_name="none", storage=open_storage(url, create=False))
    study.set_user_attr("config", load(url).user_attrs["config"])
    results = load_results(url, "none")
    assert len(results.trials) == 0 and len(results.steps) == 0


def test_what_is_not_there_is_said(url, tmp_path):
    with pytest.raises(StorageError, match="no study 'tny' in this storage; did you mean 'tiny'"):
        load_results(url, "tny")
    with pytest.raises(StorageError, match="no storage at"):
        load_results(f"sqlite:///{tmp_path}/none.db")
    optuna.create_study(study_name="foreign", storage=open_storage(url, create=False))
    with pytest.raises(StorageError, match="was not made by `sweep run`"):
        load_results(url, "foreign")


def test_a_thousand_trials_are_read_with_as_many_questions_as_five(tmp_path, request):
    study = stored_study(tmp_path, steps=80)
    assert attributes.CURVE in study.trials[0].user_attrs
    url, asked = f"sqlite:///{tmp_path}/rank-sweep.db", []

    def ask(*_):
        asked.append(1)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", ask)
    request.addfinalizer(lambda: sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", ask))
    read = []
    for times in (1, 200):
        multiply(tmp_path / "rank-sweep.db", times)
        asked.clear()
        results = load_results(url)
        read.append((len(results.trials), len(results.steps), len(asked)))
    assert [rows for *rows, _ in read] == [[5, 400], [1000, 80000]]
    assert 0 < read[0][2] == read[1][2] < 100
