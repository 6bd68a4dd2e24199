"""Alpha as a multiple of the rank: searched as such, and shown as what it comes to."""

import itertools
import json

import pytest

from sweep.confirmation.outcome import freeze
from sweep.confirmation.schedule import ConfirmSchedule
from sweep.errors import StudyFileError
from sweep.export.folder import exported_trial, write_export
from sweep.results import load_results
from sweep.search.schedule import trial_spec
from sweep.storage import attributes
from sweep.storage.attributes import SEED
from sweep.storage.database import create_or_match_study, open_storage
from sweep.storage.summary import summarize
from sweep.study.reading import load_study
from sweep.study.space import alpha_of
from tests.support.command import sweep
from tests.support.scripted_worker import ScriptedWorker

PER_R = [
    "space.r=[4, 16]", "space.alpha_per_r=[1, 2]", "space.learning_rate=[1e-3, 2e-3, 4e-3]", "search.points_per_rank=6",
    "search.trials=12", "budget.steps=4",
]  # fmt: skip


@pytest.fixture
def config():
    return load_study("tiny", PER_R)


def planted(spec, step):
    """Best at alpha / r = 2 and the middle rate, at whatever rank."""
    return 0.5 + 0.05 * (spec.lora.alpha / spec.lora.r == 2) + 0.05 * (spec.learning_rate == 2e-3) + step / 1000


def test_every_rank_gets_the_same_multiples(config):
    design = config.search_space().design(6, seed=0)
    multiples = {r: sorted(p["alpha_per_r"] for p in design if p["r"] == r) for r in (4, 16)}
    assert multiples[4] == multiples[16] == [1, 1, 1, 2, 2, 2]
    assert {alpha_of(point) / point["r"] for point in design} == {1, 2}


def test_multiples_above_the_wall_are_refused_with_both_remedies():
    with pytest.raises(StudyFileError) as refusal:
        load_study("tiny", ["space.alpha_per_r=[1, 2]"])
    told = str(refusal.value)
    assert "2 x r=64 is alpha=128, which exceeds max_lora_rank=64" in told
    assert "model.max_lora_rank=128" in told
    assert "space.alpha_above_ceiling=true" in told
    lifted = load_study("tiny", ["space.alpha_per_r=[1, 2]", "space.alpha_above_ceiling=true"])
    assert lifted.search_space().r[-1] == 64
    assert load_study("tiny", ["space.alpha_per_r=[1, 2]", "model.max_lora_rank=128"]).engine_max_lora_rank == 128


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["space.alpha_per_r=[0.5]", "space.r=[1, 4]"], "0.5 x r=1 is 0.5; alpha is a whole number"),
        (["space.alpha_per_r=[2, 1]", "space.r=[4]"], "in ascending order"),
        (["space.alpha_per_r=[0]", "space.r=[4]"], "above 0"),
        (["space.alpha_per_r=[1]", "space.alpha=[4]"], "give one of them"),
    ],
)
def test_what_cannot_be_is_refused(overrides, why):
    with pytest.raises(StudyFileError) as refusal:
        load_study("tiny", overrides)
    assert why in str(refusal.value)


def test_a_stored_study_is_shown_frozen_and_confirmed_with_its_alpha(config, supervise, tmp_path):
    study = supervise(config, ScriptedWorker(planted))
    for trial in study.trials:
        assert trial.params.keys() == {"r", "alpha_per_r", "learning_rate"}
        assert trial.user_attrs[attributes.ALPHA] == trial.params["r"] * trial.params["alpha_per_r"]
        assert trial_spec(trial, config).lora.alpha == trial.user_attrs[attributes.ALPHA]
    summary = summarize(study)
    assert all(rank.tuned for rank in summary.ranks)
    frozen = freeze(summary, config).frozen
    assert [(f.r, f.alpha, f.learning_rate) for f in frozen] == [(4, 8, 2e-3), (16, 32, 2e-3)]

    storage = open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=False)
    confirmation = create_or_match_study(storage, config, study.sampler, name="tiny.confirm")
    schedule = ConfirmSchedule(config, frozen, seeds=2)
    schedule.queue(confirmation)
    asked = [schedule.next_trial(confirmation) for _ in range(4)]
    assert [(t.params["r"], t.params["alpha_per_r"]) for t in asked] == [(4, 2.0), (16, 2.0)] * 2
    assert [trial_spec(trial, config).lora.alpha for trial in asked] == [8, 32] * 2
    assert len({trial.user_attrs[SEED] for trial in asked}) == 2


def test_frames_tables_and_exports_say_what_it_comes_to(config, supervise, tmp_path):
    study = supervise(config, ScriptedWorker(planted))
    trials = load_results(f"sqlite:///{tmp_path}/rank-sweep.db", "tiny").trials
    assert list(trials.columns[:7]) == ["study", "phase", "trial", "state", "r", "alpha", "alpha_per_r"]
    assert (trials["alpha"] == trials["r"] * trials["alpha_per_r"]).all()
    shown = json.loads(sweep("show", "tiny", "--json", cwd=tmp_path).stdout)
    assert {trial["alpha"] / trial["r"] for trial in shown["trials"]} == {1, 2}
    assert "32, 0.002" in sweep("show", "tiny", cwd=tmp_path).stdout
    number = next(trial.number for trial in study.trials if trial.params["r"] == 16)
    write_export(exported_trial(study, number, url=f"sqlite:///{tmp_path}/rank-sweep.db"), study, tmp_path / "out")
    assert f"lora_alpha={trials['alpha'][number]}," in (tmp_path / "out" / "train.py").read_text()
    done = sweep("report", "tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("overrides", [["space.alpha_per_r=[1, 2]"], ["space.alpha=[4, 8, 16, 32]"]])
def test_the_smoothing_freezes_the_planted_best_in_either_way(overrides, supervise):
    """The truth is a function of alpha / r, which one ladder says directly and the other by its values."""
    rest = [each for each in PER_R if "alpha" not in each and "points" not in each and "trials" not in each]
    points = 6 if "per_r" in overrides[0] else 12
    config = load_study("tiny", [*rest, *overrides, f"search.points_per_rank={points}", f"search.trials={2 * points}"])
    study = supervise(config, ScriptedWorker(planted))
    frozen = {f.r: f for f in freeze(summarize(study), config).frozen}
    for r, f in frozen.items():
        assert f.learning_rate == 2e-3, f
        assert f.alpha in (r, 2 * r), f


def test_a_plan_shows_multiples_and_no_alpha_ladder(tmp_path):
    sets = list(itertools.chain.from_iterable(("--set", each) for each in PER_R))
    plan = json.loads(sweep("plan", "tiny", *sets, "--json", cwd=tmp_path).stdout)
    assert plan["search"]["ladders"]["alpha_per_r"] == [1, 2]
    assert "alpha" not in plan["search"]["ladders"]
