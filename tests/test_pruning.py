"""Optuna's pruners over GRPO steps: what they end, what they leave alone, and what is made of what they ended."""

import io
import json

import optuna
import pytest
from rich.console import Console

from objectives.trial.messages import StepMetrics
from sweep.confirmation.naming import confirmation_name
from sweep.confirmation.outcome import freeze, store_frozen
from sweep.confirmation.schedule import ConfirmSchedule
from sweep.early_stopping.pruner import first_rung, make_pruner, recent_reward
from sweep.errors import StudyMismatchError
from sweep.results import load_results
from sweep.storage import attributes
from sweep.storage.attributes import DESIGN
from sweep.storage.database import create_or_match_study, open_storage
from sweep.storage.summary import summarize
from sweep.study.reading import load_study
from sweep.terminal.tables import study_table
from tests.support.command import SMALL, sweep
from tests.support.scripted_worker import ScriptedWorker

STEPS = 16
PRUNERS = ["successive_halving", "hyperband"]


def load(pruner="successive_halving", *overrides):
    small = ["space.r=[1, 16]", "search.points_per_rank=3", "search.trials=18", f"budget.steps={STEPS}"]
    return load_study("tiny", [*small, f"search.pruner={pruner}", *overrides])


def later_is_worse(spec, step):
    """Every trial learns, and none as well as those before it."""
    return 0.9 - 0.02 * spec.number + 0.001 * step


def later_is_better(spec, step):
    return 0.5 + 0.02 * spec.number + 0.001 * step


def ended_early(study):
    return [trial for trial in study.trials if attributes.ENDED_EARLY in trial.user_attrs]


def table_text(study):
    console = Console(file=io.StringIO(), width=80)
    console.print(study_table(summarize(study)))
    return " ".join(console.file.getvalue().split())


@pytest.mark.parametrize("pruner", PRUNERS)
def test_what_loses_ends_early_its_slot_is_filled_and_all_trials_are_accounted_for(pruner, supervise):
    worker = ScriptedWorker(later_is_worse)
    study = supervise(load(pruner), worker)
    early = ended_early(study)
    assert len(early) > 3
    assert [trial.state.name for trial in early] == ["PRUNED"] * len(early)
    assert len(study.trials) == 18
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED"}
    named = {"successive_halving": "successive halving", "hyperband": "Hyperband"}[pruner]
    for trial in early:
        rung = trial.last_step - 1  # the worker ends it at its next step
        assert rung in (4, 8)
        assert trial.user_attrs[attributes.REASON] == f"pruned at step {rung} by {named}"
        assert trial.user_attrs[attributes.COLLAPSED] is False
    starts = sorted(trial.datetime_start for trial in study.trials)
    assert worker.most == 3
    assert all(starts[i + 3] >= sorted(t.datetime_complete for t in study.trials)[i] for i in range(15))


@pytest.mark.parametrize("pruner", PRUNERS)
def test_the_design_runs_its_whole_budget_however_poor_it_is(pruner, supervise):
    study = supervise(load(pruner), ScriptedWorker(lambda spec, _: 0.4 if spec.number < 6 else 0.6))
    design = [trial for trial in study.trials if DESIGN in trial.user_attrs]
    assert [(trial.state.name, trial.last_step) for trial in design] == [("COMPLETE", STEPS)] * 6
    assert all("completed_rung_0" in trial.system_attrs for trial in design) or pruner == "hyperband"


def test_by_default_nothing_but_a_collapse_ends_a_trial(supervise):
    study = supervise(load("none"), ScriptedWorker(later_is_worse))
    assert isinstance(study.pruner, optuna.pruners.NopPruner)
    assert {(trial.state.name, trial.last_step) for trial in study.trials} == {("COMPLETE", STEPS)}
    assert study.trials[0].intermediate_values[3] == later_is_worse_at(0, 3)


def later_is_worse_at(number, step):
    return 0.9 - 0.02 * number + 0.001 * step


def test_what_ended_early_has_no_value_anywhere(supervise, tmp_path):
    config = load()
    study = supervise(config, ScriptedWorker(later_is_worse))
    early = {trial.number for trial in ended_early(study)}
    summary = summarize(study)
    for trial in summary.trials:
        assert trial.ended_early == (trial.number in early)
        assert (trial.value is None) == (trial.greedy is None) == trial.ended_early
    assert sum(rank.ended_early for rank in summary.ranks) == len(early)
    assert sum(rank.n for rank in summary.ranks) == 18 - len(early)
    assert all(rank.tuned and rank.best.number not in early for rank in summary.ranks)
    frozen = freeze(summary, config).frozen
    assert sum(c.n_search_trials for c in frozen) <= 18 - len(early)
    trials = load_results(f"sqlite:///{tmp_path}/rank-sweep.db").trials
    assert set(trials.trial[trials.held_out.isna()]) == set(trials.trial[trials.ended_early]) == early
    shown = summary.as_json()
    assert shown["pruner"] == "successive_halving"
    assert {trial["number"] for trial in shown["trials"] if trial["value"] is None} == early
    json.dumps(shown)


def test_the_table_names_the_pruner_counts_what_it_ended_and_warns(supervise):
    study = supervise(load(), ScriptedWorker(later_is_worse))
    shown = table_text(study)
    assert "search.pruner = 'successive_halving'" in shown
    assert "it discards ranks that learn late" in shown
    assert "ended early by the pruner, so without a score of the whole budget, and not counted: r=" in shown


def test_a_study_that_does_not_prune_is_not_warned_about(supervise):
    shown = table_text(supervise(load("none"), ScriptedWorker(later_is_worse)))
    assert "pruner" not in shown


def test_a_trial_that_spends_its_budget_before_it_hears_counts_in_full(supervise):
    study = supervise(load(), ScriptedWorker(later_is_worse, deaf=True))
    assert {(trial.state.name, trial.last_step) for trial in study.trials} == {("COMPLETE", STEPS)}
    assert not ended_early(study)
    assert all(attributes.REASON not in trial.user_attrs for trial in study.trials)
    assert all(trial.value is not None for trial in summarize(study).trials)


def test_a_trial_that_is_pruned_with_its_reward_lost_has_collapsed(supervise):
    study = supervise(load(), ScriptedWorker(lambda spec, _: 0.5 if spec.number < 6 else 0.1 - spec.number / 1000))
    lost = [trial for trial in summarize(study).trials if trial.number >= 6]
    assert {(trial.state, trial.collapsed, trial.ended_early) for trial in lost} == {("pruned", True, False)}
    assert [trial.value for trial in lost] == [0.1 - number / 1000 for number in range(6, 18)]
    reason = "collapsed: held-out reward 0.094 against the base policy's 0.250; pruned at step 4 by successive halving"
    assert lost[0].reason == reason


def test_winners_are_left_to_run(supervise):
    study = supervise(load(), ScriptedWorker(later_is_better, slots=1))
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}


@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_confirmation_never_prunes(pruner, supervise, tmp_path):
    config = load(pruner)
    searched = supervise(config, ScriptedWorker(later_is_worse))
    storage = open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=False)
    study = create_or_match_study(storage, config, optuna.samplers.RandomSampler(), name=confirmation_name("tiny"))
    frozen = store_frozen(study, freeze(summarize(searched), config)).frozen
    supervise(config, ScriptedWorker(later_is_worse), study=study, schedule=ConfirmSchedule(config, frozen, seeds=5))
    assert [(trial.state.name, trial.last_step) for trial in study.trials] == [("COMPLETE", STEPS)] * 10
    assert study.trials[0].intermediate_values[3] == later_is_worse_at(0, 3)


def test_the_sampler_learns_from_all_trials_whatever_the_pruner():
    """Optuna 5.0 hides all but one bracket's from it where the study's pruner is a HyperbandPruner."""
    config = load("hyperband")
    study = optuna.create_study(direction="maximize", pruner=make_pruner(config))
    assert optuna.pruners._filter_study(study, None) is study


def test_another_pruner_is_another_study(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=True)
    create_or_match_study(storage, load("none"), optuna.samplers.RandomSampler()).ask()
    with pytest.raises(StudyMismatchError, match=r'search\.pruner: "none" -> "hyperband"'):
        create_or_match_study(storage, load("hyperband"), optuna.samplers.RandomSampler())


def test_rungs_lie_at_a_quarter_and_half_and_never_near_the_end():
    assert [first_rung(steps) for steps in (1, 2, 6, 80, 250)] == [1, 1, 2, 20, 63]
    for steps in range(1, 500):
        assert 4 * first_rung(steps) >= steps
        assert 2 * first_rung(steps) <= steps / 2 + 2


def test_a_pruner_goes_by_the_mean_of_as_many_steps_as_its_first_rung_has():
    def curve(*steps):
        return [
            StepMetrics(step=s, reward=float(s), reward_std=0, groups_without_signal=0, completion_length=1, tokens=1,
                        seconds=0)
            for s in steps
        ]  # fmt: skip

    assert recent_reward(curve(1), 16) == 1
    assert recent_reward(curve(1, 2, 3), 16) == 2
    assert recent_reward(curve(1, 2, 3, 4, 5, 6), 16) == 4.5
    assert recent_reward(curve(1, 3, 5, 7), 16) == 6  # a report for every second step, as with num_iterations = 2


def test_a_plan_names_the_pruner_and_warns(tmp_path):
    planned = sweep("plan", "tiny", "--set", "search.pruner=hyperband", "--json", cwd=tmp_path)
    [note] = json.loads(planned.stdout)["notes"]
    assert note.startswith("search.pruner = 'hyperband': Hyperband ends trials early")
    refused = sweep("plan", "tiny", "--set", "search.pruner=median", cwd=tmp_path)
    assert refused.returncode == 2
    assert "search.pruner: Input should be 'none', 'successive_halving' or 'hyperband'" in refused.stderr


@pytest.mark.long
def test_a_packed_study_prunes_refills_its_slots_and_is_confirmed_unpruned(tmp_path):
    small = [
        *SMALL, "--set", "learner.name=packed", "--set", "learner.pack_size=3", "--set", "space.r=[1,64]",
        "--set", "search.points_per_rank=1", "--set", "budget.steps=8", "--set", "search.pruner=successive_halving",
    ]  # fmt: skip
    done = sweep("run", "tiny", "--trials", 12, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.index("successive halving ends trials early") < done.stdout.index("12 trials of 8 steps")
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{tmp_path}/rank-sweep.db")
    early = {trial.number for trial in ended_early(study)}
    assert early
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED"}
    assert len(study.trials) == 12
    for number in early:
        cost = study.trials[number].user_attrs[attributes.COST]
        assert cost["steps"] < 8
        assert "by successive halving" in study.trials[number].user_attrs[attributes.REASON]
    first = min(study.trials[number].datetime_complete for number in early)
    assert any(trial.datetime_start >= first for trial in study.trials)
    assert len({trial.user_attrs["worker"] for trial in study.trials}) == 1
    assert study.user_attrs[attributes.FACTS]["slots"] == 3
    assert "packed: 3 trials at once" in done.stdout
    shown = json.loads(sweep("show", "tiny", "--json", cwd=tmp_path).stdout)
    assert {trial["number"] for trial in shown["trials"] if trial["value"] is None} == early
    assert all(rank["tuned"] for rank in shown["ranks"])
    assert "ended early by the pruner" in sweep("show", "tiny", cwd=tmp_path).stdout
    confirmed = sweep("confirm", "tiny", "--seeds", 2, *small, cwd=tmp_path)
    assert confirmed.returncode == 0, confirmed.stdout + confirmed.stderr
    again = optuna.load_study(study_name="tiny.confirm", storage=f"sqlite:///{tmp_path}/rank-sweep.db")
    assert [(trial.state.name, trial.last_step) for trial in again.trials] == [("COMPLETE", 8)] * 4
