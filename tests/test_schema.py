"""Studies that were begun under earlier rules: they show, go on and are confirmed under what they declared."""

import json
import shutil
from pathlib import Path

import optuna
import pytest

from objectives.trial.messages import HeldOutScore
from sweep.confirmation.naming import confirmation_study
from sweep.confirmation.outcome import stored_confirmation
from sweep.errors import StorageError, StudyMismatchError
from sweep.html_report.contents import read_report
from sweep.html_report.page import report_html
from sweep.storage import attributes
from sweep.storage.attributes import SCHEMA
from sweep.storage.database import create_or_match_study, match_study, open_storage, open_study
from sweep.storage.schema import CURRENT, GAINS, LEVELS, as_declared, base_of, declared_note, rule_of, schema_of
from sweep.storage.summary import stored_config, summarize
from sweep.study.reading import load_study
from tests.support.command import sweep

STORED = Path(__file__).parent / "data" / "tolerance.db"
"""A search and its confirmation of `tiny`, as the last commit without a schema stored them: 24 steps, nine seeds."""
DECLARED = [
    "space.r=[1, 16]", "space.alpha=[32]", "space.learning_rate=[1e-3, 2e-3, 8e-3]", "search.points_per_rank=3",
    "budget.steps=24", "task.held_out_prompts=128",
]  # fmt: skip
OVERRIDES = [part for override in DECLARED for part in ("--set", override)]


@pytest.fixture
def storage(tmp_path):
    shutil.copyfile(STORED, tmp_path / "rank-sweep.db")
    return open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=False)


def test_an_earlier_study_is_judged_by_its_own_rule(storage):
    search = open_study(storage, "tiny")
    confirmed = stored_confirmation(search)
    assert (schema_of(search), schema_of(confirmation_study(search))) == (LEVELS, LEVELS)
    verdict = confirmed.verdict
    assert (verdict.outcome.value, verdict.r) == ("found_and_smaller_shown_worse", 16)
    assert (verdict.keep, verdict.tolerance, verdict.base) == (None, 0.05, None)
    assert verdict.reason == (
        "r=16 is the smallest rank within 0.05 of the best (95 % confidence, 9 seeds); the next rank down, r=1, is "
        "shown to be more than 0.05 below r=16."
    )
    assert rule_of(stored_config(search), LEVELS).gains is False


def test_an_earlier_study_is_shown_in_every_form(storage, tmp_path):
    shown = sweep("show", "tiny", cwd=tmp_path)
    assert "r=16 is the smallest rank within 0.05 of the best" in shown.stdout
    verdict = json.loads(sweep("show", "tiny", "--json", cwd=tmp_path).stdout)["verdict"]
    assert (verdict["r"], verdict["tolerance"], verdict["keep"]) == (16, 0.05, None)
    page = report_html(read_report(open_study(storage, "tiny")))
    assert "0.05 of held-out reward" in page
    assert "<th>gain</th>" not in page
    assert sweep("export", "tiny", "-o", "out", cwd=tmp_path).returncode == 0
    assert "the tolerance was 0.05" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("declared", [[], ["verdict.keep=0.9"], ["verdict.tolerance=0.05"]])
def test_a_study_file_goes_on_with_an_earlier_study_under_its_tolerance(declared, storage):
    search = open_study(storage, "tiny")
    config = as_declared(search, load_study("tiny", [*DECLARED, *declared]))
    assert (config.verdict.keep, config.verdict.tolerance) == (None, 0.05)
    match_study(search, config)
    assert "earlier version" in declared_note(search)


def test_another_tolerance_is_refused_as_ever(storage):
    search = open_study(storage, "tiny")
    config = as_declared(search, load_study("tiny", [*DECLARED, "verdict.tolerance=0.1"]))
    with pytest.raises(StudyMismatchError, match=r"verdict\.tolerance: 0\.05 -> 0\.1"):
        match_study(search, config)


def test_an_earlier_study_keeps_its_floor_of_a_collapse(storage):
    search = open_study(storage, "tiny")
    score = HeldOutScore(step=0, sampled=0.25, greedy=0.3, prompts=128, spread=0.43)
    assert base_of(search, score).spread is None


def test_a_new_study_is_of_today_and_stays_so(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=True)
    study = create_or_match_study(storage, load_study("tiny"), optuna.samplers.RandomSampler())
    assert study.user_attrs[SCHEMA] == CURRENT == GAINS
    assert declared_note(study) == ""
    study.ask()
    changed = load_study("tiny", ["verdict.tolerance=0.05"])
    with pytest.raises(StudyMismatchError, match=r"verdict\.keep: 0\.85 -> null; verdict\.tolerance: null -> 0\.05"):
        create_or_match_study(storage, changed, optuna.samplers.RandomSampler())


def test_a_study_of_a_later_version_is_refused(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=True)
    study = create_or_match_study(storage, load_study("tiny"), optuna.samplers.RandomSampler())
    study.set_user_attr(SCHEMA, 3)
    with pytest.raises(StorageError, match="later version of rank-sweep"):
        schema_of(study)


@pytest.mark.long
def test_an_earlier_study_goes_on_and_is_confirmed_further(storage, tmp_path):
    ran = sweep("run", "tiny", "--trials", 8, *OVERRIDES, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "it goes on under the rules that it declared" in " ".join(ran.stdout.split())
    done = sweep("confirm", "tiny", "--seeds", 10, *OVERRIDES, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tolerance 0.05" in done.stdout
    search = open_study(storage, "tiny")
    assert (len(summarize(search).trials), schema_of(search), schema_of(confirmation_study(search))) == (8, 1, 1)
    confirmed = stored_confirmation(search)
    assert (confirmed.seeds, confirmed.verdict.tolerance, confirmed.looks) == (10, 0.05, (9, 10))
    assert all(rank.n_seeds == 10 for rank in confirmed.verdict.per_rank)
    newest = search.trials[-1].user_attrs
    assert attributes.BASE in newest, "what is measured is stored, though the rule does not look at it"
