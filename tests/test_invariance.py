"""Decisions do not depend on the units of a reward, nor on where its zero is: whole studies under a * reward + c."""

import math
from pathlib import Path

import optuna
import pytest

from objectives.lora import LoraSpec
from objectives.trial.messages import HeldOutScore, StepMetrics, TrialResult, TrialSpec
from sweep.confirmation.naming import confirmation_name, confirmation_study
from sweep.confirmation.outcome import count_look, freeze, read_confirmation, store_frozen
from sweep.confirmation.schedule import ConfirmSchedule, SeedBySeed
from sweep.early_stopping.collapse_monitor import CollapseMonitor
from sweep.running.running_trial import RunningTrial
from sweep.search.schedule import make_sampler
from sweep.storage import attributes
from sweep.storage.database import create_or_match_study
from sweep.storage.schema import CURRENT, rule_of
from sweep.storage.summary import stored_config, summarize
from sweep.study.reading import load_study
from tests.support.scaling import scale_storage
from tests.support.scripted_worker import ScriptedWorker

MAPS = [(a, c) for a in (0.01, 1, 100) for c in (-1000, -1, 0, 1, 1000)]
RECORDED = Path(__file__).parent / "data" / "gains.db"
"""A search and its confirmation of the study `tiny`: 24 steps a trial, two ranks, nine seeds."""
STEPS = 16


def load(rule, design="fixed"):
    small = ["space.r=[1, 4, 16]", "search.points_per_rank=3", "search.trials=15", f"budget.steps={STEPS}"]
    return load_study(
        "tiny",
        [
            *small,
            "space.alpha=[16, 32, 64]",
            "space.learning_rate=[1e-3, 2e-3, 8e-3]",
            rule,
            f"verdict.design={design}",
        ],
    )


def luck(spec):
    """A little noise that is a trial's own."""
    return 0.02 * math.sin(spec.number * 12.9898 + spec.seed * 78.233 + spec.lora.r)


def learns(spec, step):
    """Rank 1 learns little, 4 and 16 alike; large updates lose more or less of the base policy's quarter."""
    rough = spec.lora.alpha * spec.learning_rate
    if rough > 0.2:
        return max(0.0, 0.25 - rough * (1 + spec.lora.r) * step / STEPS)
    return 0.25 + {1: 0.15, 4: 0.33, 16: 0.35}[spec.lora.r] * (1 - 4 * rough) * step / STEPS + luck(spec)


def learns_nothing(spec, step):
    return 0.25 + luck(spec) / 3


def is_silent(spec, step):
    return 0.9 if spec.lora.alpha * spec.learning_rate > 0.2 else 0.3


def scripted_study(supervise, rule, reward, units, design):
    """A search with its confirmation, run from nothing on rewards in these units: what was decided on the way."""
    config, storage = load(rule, design), optuna.storages.InMemoryStorage()
    search = create_or_match_study(storage, config, make_sampler(design_size=9, seed=0))
    supervise(config, ScriptedWorker(reward, silent=is_silent, units=units), study=search)
    study = create_or_match_study(storage, config, optuna.samplers.RandomSampler(), name=confirmation_name("tiny"))
    frozen = store_frozen(study, freeze(summarize(search), config))
    worker = ScriptedWorker(reward, silent=is_silent, units=units)
    if design == "fixed":
        supervise(config, worker, study=study, schedule=ConfirmSchedule(config, frozen.frozen, seeds=9))
        count_look(study, 9)
    else:
        schedule = SeedBySeed(config, frozen, rule_of(config, CURRENT), seeds=config.verdict.seeds)
        supervise(config, worker, study=study, schedule=schedule)
    return decisions(search, study, config)


def decisions(search, study, config):
    """All that a study decides, in order."""
    confirmed = read_confirmation(study, config)
    verdict = confirmed.verdict
    return {
        "points": [trial.params for trial in search.trials],
        "ends": [(trial.state, trial.last_step) for trial in [*search.trials, *study.trials]],
        "collapsed": [trial.user_attrs[attributes.COLLAPSED] for trial in [*search.trials, *study.trials]],
        "frozen": configurations(freeze(summarize(search), config)),
        "outcome": (verdict.outcome, verdict.r, verdict.alpha, verdict.learning_rate, verdict.seeds_needed),
        "passes": [(rank.r, rank.passes, rank.judged, rank.n_seeds) for rank in verdict.per_rank],
    }


def configurations(search):
    return [(c.r, c.alpha, c.learning_rate) for c in search.frozen], [rank.r for rank in search.untuned]


@pytest.fixture(scope="module")
def expected():
    """Decisions under (1, 0), by study and rule; filled by the first test that needs them."""
    return {}


@pytest.mark.parametrize("units", MAPS, ids=str)
@pytest.mark.parametrize("rule", ["keep", "tolerance"])
@pytest.mark.parametrize("reward", [learns, learns_nothing])
@pytest.mark.parametrize("design", ["fixed", "sequential"])
def test_a_study_that_is_run_in_other_units_is_the_same_study(design, reward, rule, units, supervise, expected):
    def decided(a, c):
        declared = "verdict.keep=0.85" if rule == "keep" else f"verdict.tolerance={0.05 * a}"
        return scripted_study(supervise, declared, reward, (a, c), design)

    found = decided(*units)
    if (design, reward, rule) not in expected:
        expected[design, reward, rule] = decided(1, 0)
    assert found == expected[design, reward, rule]
    outcome, r, *_ = found["outcome"]
    assert (outcome.value, r) == {
        learns: ("found_and_smaller_shown_worse", 4),
        learns_nothing: ("nothing_learned", None),
    }[reward]
    if reward is learns:
        assert 0 < sum(found["collapsed"]) < 10


@pytest.mark.parametrize("units", MAPS, ids=str)
@pytest.mark.parametrize("rule", ["keep", "tolerance"])
def test_a_recorded_study_is_decided_alike_in_other_units(rule, units, tmp_path):
    def rejudged(folder, a, c):
        search = scale_storage(RECORDED, folder, a, c)
        study, config = confirmation_study(search), stored_config(search)
        if rule == "tolerance":
            verdict = config.verdict.model_copy(update={"keep": None, "tolerance": 0.05 * a})
            config = config.model_copy(update={"verdict": verdict})
        again = {trial.number: why_collapsed(trial, search, config) for trial in search.trials}
        assert {n: bool(why) for n, why in again.items()} == {
            trial.number: trial.user_attrs[attributes.COLLAPSED] for trial in search.trials
        }
        return decisions(search, study, config)

    found = rejudged(tmp_path / "scaled", *units)
    assert found == rejudged(tmp_path / "as it is", 1, 0)
    assert found["outcome"][0].value == "found_and_smaller_shown_worse"
    assert any(found["collapsed"])


def why_collapsed(trial, study, config):
    """Judges a stored trial's collapse again, from its steps and scores."""
    attrs, curve = trial.user_attrs, trial.user_attrs[attributes.CURVE]
    running = RunningTrial(
        trial=optuna.trial.FixedTrial({}),
        spec=TrialSpec(number=trial.number, lora=LoraSpec(r=1, alpha=1), learning_rate=1.0, seed=0),
        monitor=CollapseMonitor(
            base=HeldOutScore(**study.user_attrs[attributes.BASELINE]),
            patience=config.search.collapse_patience,
            prompts_per_step=config.budget.prompts_per_step,
        ),
        pruner=None,
    )
    names = ("step", "reward", "reward_std", "groups_without_signal", "completion_length", "tokens", "seconds")
    for values in zip(*(curve[name] for name in names), strict=True):
        running.observe(StepMetrics(**dict(zip(names, values, strict=True))))
    scores = tuple(HeldOutScore(**score) for score in attrs[attributes.SCORES])
    result = TrialResult(
        scores=scores, steps=scores[-1].step, pruned=False, tokens=1, adapter_parameters=1, seconds={},
        base=attributes.base_score(attrs),
    )  # fmt: skip
    return running.why_collapsed(result)
