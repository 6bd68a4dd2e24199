"""`sweep confirm --steps`: what was confirmed goes on to more steps, as a horizon of its own."""

import html
import json

import pytest

from sweep.confirmation.naming import confirmation_name, generation_named, horizon_name, is_confirmation
from sweep.errors import NothingToConfirmError, UsageError
from sweep.results import load_results
from sweep.storage import attributes
from sweep.storage.database import open_storage, open_study
from tests.support.command import SMALL, sweep

STUDY = [
    "tiny", *SMALL, "--set", "space.r=[1, 16]", "--set", "search.points_per_rank=3", "--set", "search.trials=6",
    "--set", "space.learning_rate=[0.0005, 0.001, 0.002]", "--set", "run.keep_checkpoints=true",
]  # fmt: skip


def test_its_name_says_whose_it_is():
    name = horizon_name(confirmation_name("tiny"), 160)
    assert name == "tiny.confirm.160-steps"
    assert is_confirmation(name, ["tiny", name])
    assert not is_confirmation(name, ["small", name])
    assert generation_named(horizon_name(confirmation_name("tiny", 1), 160)) == 1


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search of two ranks."""
    folder = tmp_path_factory.mktemp("searched")
    done = sweep("run", *STUDY, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.long
def test_trials_go_on_from_the_ends_of_the_shorter_ones(searched):
    early = sweep("confirm", *STUDY, "--steps", 12, cwd=searched)
    assert (early.returncode, len(early.stderr.splitlines())) == (NothingToConfirmError.exit_code, 1)
    assert "there is none yet: `sweep confirm` first" in early.stderr
    assert sweep("confirm", *STUDY, "--seeds", 2, cwd=searched).returncode == 0
    less = sweep("confirm", *STUDY, "--steps", 6, cwd=searched)
    assert less.returncode == UsageError.exit_code
    assert "--steps 6; allowed: more than budget.steps=6" in less.stderr

    done = sweep("confirm", *STUDY, "--steps", 12, "--seeds", 2, cwd=searched)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("going on at step 7 of 12") == 4
    storage = f"sqlite:///{searched}/rank-sweep.db"
    longer = open_study(open_storage(storage, create=False), "tiny.confirm.12-steps")
    shorter = open_study(open_storage(storage, create=False), "tiny.confirm")
    ends = {(trial.params["r"], trial.user_attrs[attributes.SEED]): trial.value for trial in shorter.trials}
    for trial in longer.trials:
        scores = {score["step"]: score["sampled"] for score in trial.user_attrs[attributes.SCORES]}
        assert scores[6] == ends[trial.params["r"], trial.user_attrs[attributes.SEED]]
        assert max(scores) == 12
    assert load_results(storage).trials.study.unique().tolist() == ["tiny"], "no search of that name"
    shown = sweep("show", "tiny", cwd=searched)
    assert shown.returncode == 0, shown.stderr
    shown = json.loads(sweep("show", "tiny", "--json", cwd=searched).stdout)
    assert list(shown["longer"]) == ["12"]
    assert sweep("report", "tiny", cwd=searched).returncode == 0
    said = f"After 12 steps a trial (tiny.confirm.12-steps): {shown['longer']['12']['reason']}"
    assert said in html.unescape((searched / "report.html").read_text())
