"""`sweep extend`: longer ladders in a stored study, and what is confirmed after that."""

import re
from collections import Counter
from pathlib import Path

import optuna
import pytest

from sweep.confirmation.naming import confirmation_name, confirmation_study, first_seed, generation_of, is_confirmation
from sweep.confirmation.outcome import freeze, store_frozen, stored_confirmation
from sweep.confirmation.schedule import ConfirmSchedule
from sweep.confirmation.shown import other_verdicts
from sweep.errors import StorageError, StudyMismatchError, UsageError
from sweep.results import load_results
from sweep.running.copy import copy_study
from sweep.running.extend import extend_study
from sweep.running.recipe import open_to_run
from sweep.search.design import design
from sweep.search.schedule import missing_design
from sweep.storage.attributes import DESIGN, SEED
from sweep.storage.database import create_or_match_study, log_folder, match_study, open_storage, open_study
from sweep.storage.ladders import extensions
from sweep.storage.summary import summarize
from sweep.storage.writer import study_lock
from sweep.study.reading import find_study, line_of, load_study
from sweep.terminal.extension import extension_lines, file_lines
from tests.support.command import SMALL, sweep
from tests.support.scripted_worker import ScriptedWorker
from tests.test_confirm import POINTS
from tests.test_confirm import run as run_confirmation_trials
from tests.test_plots import stored_study
from tests.test_report import confirm_study

SETTINGS = [
    "space.learning_rate=[1e-3, 2e-3, 4e-3]", "space.alpha=[16, 32]", "search.points_per_rank=2", "budget.steps=4",
]  # fmt: skip
SHORT = ["space.r=[1, 4, 16]", "search.trials=8"]
LONG = ["space.r=[1, 2, 4, 16, 64]", "search.trials=14"]


@pytest.fixture
def searched(supervise, tmp_path):
    """A search over three ranks that has ended: its URL."""
    supervise(load_study("tiny", SETTINGS + SHORT), ScriptedWorker(lambda spec, step: 0.5 + spec.lora.r / 200))
    return f"sqlite:///{tmp_path}/rank-sweep.db"


def opened(url, name="tiny"):
    return open_study(open_storage(url, create=False), name)


def told(trial):
    return (
        trial.number, trial.state, trial.value, trial.params, trial.datetime_start, trial.datetime_complete,
        trial.user_attrs, trial.system_attrs, trial.intermediate_values,
    )  # fmt: skip


def test_trials_stay_as_they_are(searched):
    before = opened(searched).trials
    extension = extend_study(load_study("tiny", SETTINGS + LONG), storage=searched, dry_run=False)
    assert (extension.gained, extension.new_points, extension.trials) == ({"r": (2, 64)}, 4, 8)
    after = opened(searched).trials
    assert list(map(told, before)) == list(map(told, after))
    assert {trial.distributions["r"].choices for trial in after} == {(1, 2, 4, 16, 64)}


def test_the_design_is_filled_up_for_new_ranks_alone(searched, supervise):
    config = load_study("tiny", SETTINGS + LONG)
    extend_study(config, storage=searched, dry_run=False)
    study = supervise(config, ScriptedWorker(lambda spec, step: 0.5 + spec.lora.r / 200))
    designed = [trial.params for trial in study.trials if DESIGN in trial.user_attrs]
    rows = {r: {(p["alpha"], p["learning_rate"]) for p in designed if p["r"] == r} for r in (1, 2, 4, 16, 64)}
    assert all(row == rows[1] and len(row) == 2 for row in rows.values())
    assert (len(designed), len(study.trials)) == (10, 14)
    assert missing_design(study, config) == []
    assert all(rank.tuned for rank in summarize(study).ranks)


def test_a_longer_ladder_of_rates_gives_every_rank_the_same_rows_and_only_those_with_a_new_rung():
    before = load_study("tiny", SETTINGS + SHORT)
    after = load_study("tiny", [*SETTINGS, *SHORT, "space.learning_rate=[1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2]"])
    was, now = design(before), design(after, [before.search_space().ladders])
    assert now[: len(was)] == was
    new = now[len(was) :]
    assert new
    assert {point["learning_rate"] for point in new} <= {8e-3, 1.6e-2}
    assert len(set(Counter(point["r"] for point in new).values())) == 1
    assert design(after, []) != now


def test_what_was_not_extended_has_the_design_that_it_had():
    config = load_study("tiny")
    assert design(config) == config.search_space().design(config.search.points_per_rank, seed=0)


def test_the_file_from_before_is_refused_with_what_to_write_into_it(searched):
    config = load_study("tiny", SETTINGS + LONG)
    extend_study(config, storage=searched, dry_run=False)
    match_study(opened(searched), config)
    with pytest.raises(StudyMismatchError, match=r"extended: put r = \[1, 2, 4, 16, 64\] into the file's \[space\]"):
        match_study(opened(searched), load_study("tiny", SETTINGS + SHORT))


def test_whoever_runs_longer_ladders_is_told_of_the_command(searched):
    with pytest.raises(StudyMismatchError, match=r"-> \[1, 2, 4, 16, 64\]\. `sweep extend` makes ladders longer"):
        match_study(opened(searched), load_study("tiny", SETTINGS + LONG))
    with pytest.raises(StudyMismatchError, match=r"Give it another study\.name"):
        match_study(opened(searched), load_study("tiny", [*SETTINGS, *LONG, "budget.steps=5"]))


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        (["space.r=[1, 2, 16, 64]"], StudyMismatchError, r"cannot be extended: space\.r: \[1, 4, 16\] -> \[1, 2, 16"),
        ([*LONG, "budget.steps=8"], StudyMismatchError, r"other settings: budget\.steps: 4 -> 8"),
        ([*LONG, "verdict.keep=0.9"], StudyMismatchError, r"other settings: verdict\.keep: 0\.85 -> 0\.9"),
        ([*LONG, "model.max_lora_rank=128"], StudyMismatchError, r"model\.max_lora_rank: 64 -> 128"),
        ([*LONG, "space.use_rslora=[false, true]"], StudyMismatchError, r"space\.use_rslora: \[false\] -> \[false, t"),
        (["space.r=[1, 4, 16]"], UsageError, r"has these ladders already; allowed: more rungs in space\.r, space\.al"),
    ],
)
def test_anything_else_is_refused_by_name_and_changes_nothing(changes, error, said, searched):
    with pytest.raises(error, match=said):
        extend_study(load_study("tiny", [*SETTINGS, *SHORT, *changes]), storage=searched, dry_run=False)
    assert extensions(opened(searched)) == []


def test_a_dry_run_changes_nothing(searched):
    before = opened(searched).user_attrs
    extension = extend_study(load_study("tiny", SETTINGS + LONG), storage=searched, dry_run=True)
    assert extension.new_points == 4
    assert opened(searched).user_attrs == before
    assert next(iter(extension_lines(extension))) == "space.r gains [2, 64]: [1, 4, 16] becomes [1, 2, 4, 16, 64]"


def test_a_study_that_is_being_run_is_not_extended(searched):
    with study_lock(log_folder(searched, "tiny")), pytest.raises(StorageError, match="is being run by process"):
        extend_study(load_study("tiny", SETTINGS + LONG), storage=searched, dry_run=False)


def test_a_study_on_a_server_is_extended_and_goes_on(searched, database, console, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy_study("tiny", storage=searched, to=database, console=console)
    config = load_study("tiny", SETTINGS + LONG)
    extend_study(config, storage=database, dry_run=False)
    assert [told(trial) for trial in opened(database).trials] == [told(trial) for trial in opened(searched).trials]
    with open_to_run(config, open_storage(database, create=False)) as run:
        assert run.study.ask(opened(database).trials[0].distributions).number == 8


def test_a_second_extension_builds_on_the_first(searched):
    extend_study(load_study("tiny", SETTINGS + LONG), storage=searched, dry_run=False)
    more = load_study("tiny", [*SETTINGS, *LONG, "space.alpha=[16, 32, 64]"])
    second = extend_study(more, storage=searched, dry_run=False)
    assert second.gained == {"alpha": (64,)}
    assert [made["ladders"]["r"] for made in extensions(opened(searched))] == [[1, 4, 16], [1, 2, 4, 16, 64]]
    assert {point["alpha"] for point in missing_design(opened(searched), more) if point["r"] == 1} == {64}


@pytest.fixture
def confirmed(tmp_path):
    """A search and its confirmation, at whose verdict somebody has looked: the URL."""
    stored_study(tmp_path, points=POINTS)
    confirm_study(tmp_path)
    return f"sqlite:///{tmp_path}/rank-sweep.db"


def test_after_a_look_the_extended_study_is_confirmed_anew_and_says_so(confirmed, tmp_path):
    search = opened(confirmed)
    first = stored_confirmation(search)
    config = summarize(search).config
    more = config.model_copy(update={"space": config.space.model_copy(update={"r": (1, 2, 4, 16, 64)})})
    extension = extend_study(more, storage=confirmed, dry_run=False)
    assert (extension.confirmation, extension.looks, extension.generation) == ("tiny.confirm", first.looks, 1)
    assert any("on fresh seeds from 2000000, and says so" in line for line in extension_lines(extension))
    search = opened(confirmed)
    assert (generation_of(search), confirmation_study(search), stored_confirmation(search)) == (1, None, None)
    storage = open_storage(confirmed, create=False)
    study = create_or_match_study(storage, more, optuna.samplers.RandomSampler(), name=confirmation_name("tiny", 1))
    frozen = store_frozen(study, freeze(summarize(search), more)).frozen
    run_confirmation_trials(
        study,
        more,
        ConfirmSchedule(more, frozen, seeds=4, first=first_seed(search)),
        lambda r, k: 0.6 + k / 1000,
    )
    seeds = {trial.user_attrs[SEED] for trial in study.trials}
    assert seeds == set(range(2_000_000, 2_000_004))
    assert not seeds & {trial.user_attrs[SEED] for trial in opened(confirmed, "tiny.confirm").trials}
    second = stored_confirmation(search)
    assert "this is confirmation 2, on fresh seeds" in second.warnings[0]
    assert [(other.name, other.confirmed.verdict) for other in other_verdicts(search)] == [
        ("tiny.confirm", first.verdict)
    ]
    shown = " ".join(sweep("show", "tiny", cwd=tmp_path).stdout.split())
    assert "this is confirmation 2" in shown
    assert f"Before the ladders were made longer (tiny.confirm): {first.verdict.reason}" in shown
    phases = Counter(load_results(confirmed, "tiny").trials.phase)
    assert set(phases) == {"search", "confirm", "confirm 1"}
    assert phases["confirm"] == len(study.trials)
    for option, mark, phase in (("search", "", "search"), ("confirm", "c", "confirm"), ("earlier", "c1/", "confirm 1")):
        listed = sweep("trials", "tiny", "--phase", option, cwd=tmp_path).stdout.splitlines()
        assert sum(bool(re.match(rf" *{mark}\d", line)) for line in listed) == phases[phase] > 0


def test_confirmations_are_known_by_their_names():
    names = ["tiny", "tiny.confirm", "tiny.confirm.2", "alone.confirm"]
    assert [is_confirmation(name, names) for name in names] == [False, True, True, False]


def test_the_line_to_change_is_named(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(Path(find_study("tiny")).read_text())
    line = line_of(file, "space.learning_rate")
    assert file.read_text().splitlines()[line - 1].startswith("learning_rate")
    after = load_study(str(file), ["space.learning_rate=[1e-3, 5e-1]"]).search_space().ladders
    assert list(file_lines(str(file), after)) == [f"change line {line} of {file}: learning_rate = [0.001, 0.5]"]
    longer = load_study(str(file), ["space.r=[1, 2]"]).search_space().ladders
    assert list(file_lines(str(file), longer)) != []
    assert list(file_lines(str(file), load_study(str(file)).search_space().ladders)) == []
    assert "shipped" in next(iter(file_lines("tiny", after)))


@pytest.mark.long
def test_the_command_extends_a_study_that_was_confirmed(tmp_path):
    options = [*SMALL, "--set", "search.points_per_rank=2", "--set", "verdict.seeds=2"]
    short, long = (["--set", f"space.r={ranks}"] for ranks in ("[1, 16]", "[1, 4, 16]"))
    assert sweep("run", "tiny", "--trials", 4, *options, *short, cwd=tmp_path).returncode == 0
    assert sweep("confirm", "tiny", *options, *short, cwd=tmp_path).returncode == 0
    done = sweep("extend", "tiny", *options, *long, "--set", "search.trials=4", cwd=tmp_path)
    assert "--trials 6" in done.stdout, done.stdout + done.stderr
    assert sweep("run", "tiny", "--trials", 6, *options, *long, cwd=tmp_path).returncode == 0
    again = sweep("confirm", "tiny", *options, *long, cwd=tmp_path)
    assert "this is confirmation 2" in " ".join(again.stdout.split()), again.stdout + again.stderr
    assert "Before the ladders were made longer" in sweep("show", "tiny", cwd=tmp_path).stdout
