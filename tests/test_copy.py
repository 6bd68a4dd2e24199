"""`sweep copy`: what arrives, and what is refused."""

import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from sqlalchemy import create_engine, text

from sweep.confirmation.naming import confirmation_name
from sweep.errors import StorageError
from sweep.running.copy import copy_study
from sweep.storage.address import driver_url
from sweep.storage.copying import ARTIFACTS, copy_studies
from sweep.storage.database import log_folder, open_storage, open_study
from sweep.storage.optuna_internals import storage_of, study_id
from tests.support.command import SMALL, sweep
from tests.support.large_study import large_study
from tests.support.postgres import PASSWORD

NAMES = ("large", confirmation_name("large"))


@pytest.fixture
def stored(tmp_path):
    """A search and its confirmation, with all that may be in one: the URL."""
    study = large_study(tmp_path, trials=230, steps=8)
    study.enqueue_trial({"r": 4, "alpha": 16, "learning_rate": 1e-3}, user_attrs={"seed": 3})
    running = optuna.load_study(study_name="large", storage=f"sqlite:///{tmp_path}/rank-sweep.db").ask()
    running.report(float("nan"), 1)
    running.report(float("inf"), 2)
    running.set_user_attr("text", "Größe \u2028 \0 😀")
    return f"sqlite:///{tmp_path}/rank-sweep.db"


def rows(url, name):
    """All that tables hold of a study, less the numbers that tell rows apart."""
    trial_tables = {
        "trial_params": "param_name, param_value, distribution_json",
        "trial_values": "objective, value, value_type",
        "trial_intermediate_values": "step, intermediate_value, intermediate_value_type",
        "trial_user_attributes": "key, value_json",
        "trial_system_attributes": "key, value_json",
    }
    study_tables = {
        "study_directions": "direction, objective",
        "study_user_attributes": "key, value_json",
        "study_system_attributes": "key, value_json",
        "trials": "number, state, datetime_start, datetime_complete",
    }
    with create_engine(driver_url(url)).connect() as connection:

        def read(query):
            return sorted(map(repr, connection.execute(text(query), {"name": name}).all()))

        of_study = "s.study_name = :name"
        found = {
            table: read(f"SELECT {columns} FROM {table} t JOIN studies s USING (study_id) WHERE {of_study}")
            for table, columns in study_tables.items()
        }
        found |= {
            table: read(
                f"SELECT number, {columns} FROM {table} JOIN trials t USING (trial_id) "
                f"JOIN studies s USING (study_id) WHERE {of_study}"
            )
            for table, columns in trial_tables.items()
        }
    return found


def test_a_copy_to_postgresql_and_back_is_the_same_to_the_byte(stored, database, tmp_path, console, monkeypatch):
    monkeypatch.chdir(tmp_path)  # logs of a study on a server go where one works
    copy_study("large", storage=stored, to=database, console=console)
    back = f"sqlite:///{tmp_path}/back.db"
    copy_study("large", storage=database, to=back, console=console)
    for name in NAMES:
        assert rows(back, name) == rows(stored, name)
        # PostgreSQL gives times as times, and SQLite as text.
        there, here = rows(database, name), rows(stored, name)
        assert len(there.pop("trials")) == len(here.pop("trials"))
        assert there == here
    first, last = (open_study(open_storage(url, create=False), "large").trials for url in (stored, database))
    assert [(t.number, t.state, t.datetime_start, t.datetime_complete, t.value, t.params) for t in first] == [
        (t.number, t.state, t.datetime_start, t.datetime_complete, t.value, t.params) for t in last
    ]
    assert [list(t.params) for t in first] == [list(t.params) for t in last]


def test_a_copy_goes_on_as_the_original_would(stored, tmp_path, console):
    to = f"sqlite:///{tmp_path}/to.db"
    copy_study("large", storage=stored, to=to, console=console)
    study = open_study(open_storage(to, create=False), "large")
    assert study.ask().number == 231
    assert [study.user_attrs, study.best_value] == [
        (original := open_study(open_storage(stored, create=False), "large")).user_attrs, original.best_value,
    ]  # fmt: skip


def test_a_study_is_not_written_over_and_nothing_of_the_others_is_left(stored, tmp_path, console):
    to = f"sqlite:///{tmp_path}/to.db"
    optuna.create_study(study_name="large.confirm", storage=open_storage(to, create=True))
    with pytest.raises(StorageError, match=r"to\.db has a study 'large\.confirm' already, and no study is"):
        copy_study("large", storage=stored, to=to, console=console)
    with pytest.raises(StorageError, match=r"has one of large, large\.confirm already"):
        copy_studies(open_storage(stored, create=False), open_storage(to, create=False), NAMES)
    assert [study.study_name for study in open_storage(to, create=False).get_all_studies()] == ["large.confirm"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_copy_that_is_cut_leaves_nothing(kind, stored, tmp_path, request):
    to = f"sqlite:///{tmp_path}/to.db" if kind == "sqlite" else request.getfixturevalue("database")
    program = (
        "import os, signal\nfrom sweep.storage.copying import copy_studies\n"
        "from sweep.storage.database import open_storage\n"
        "def die(trials): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"source, target = open_storage({stored!r}, create=False), open_storage({to!r}, create=True)\n"
        f"copy_studies(source, target, {NAMES!r}, copied=die)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    target = open_storage(to, create=False)
    assert target.get_all_studies() == []
    with target.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM trials")).scalar() == 0
    copy_studies(open_storage(stored, create=False), target, NAMES)
    assert len(target.get_all_studies()) == 2


def test_what_names_trials_by_numbers_of_the_old_storage_stays_behind(stored, tmp_path, console):
    study = open_study(open_storage(stored, create=False), "large")
    for key in (f"{ARTIFACTS}7:x", "dashboard:note"):
        storage_of(study).set_study_system_attr(study_id(study), key, "{}")
    to = f"sqlite:///{tmp_path}/to.db"
    copy_study("large", storage=stored, to=to, console=console)
    copy = open_study(open_storage(to, create=False), "large")
    assert list(storage_of(copy).get_study_system_attrs(study_id(copy))) == ["dashboard:note"]


@pytest.mark.long
def test_the_command_copies_a_study_and_says_where_its_logs_are(database, tmp_path):
    options = ["--trials", 4, "--set", "search.points_per_rank=1", *SMALL]
    assert sweep("run", "tiny", *options, cwd=tmp_path).returncode == 0
    done = sweep("copy", "tiny", "--to", database, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "copied tiny (4 trials) to postgresql://sweeper:***@127.0.0.1" in done.stdout
    logs = log_folder(f"sqlite:///{tmp_path}/rank-sweep.db", "tiny")
    there = tmp_path / log_folder(database, "tiny").relative_to(Path.cwd())
    assert f"stay in {logs}; the copy looks for them in {there}: copy that folder too" in done.stdout
    shutil.copytree(logs, there)
    assert PASSWORD not in done.stdout + done.stderr
    other = sweep("copy", "tiny", "--storage", database, "--to", "sqlite:///other.db", cwd=tmp_path)
    assert f"stay in {there}; the copy looks for them in {tmp_path / 'other.logs' / 'tiny'}" in other.stdout
    shown = [
        sweep("show", "tiny", "--json", "--storage", url, cwd=tmp_path) for url in (database, "sqlite:///other.db")
    ]
    assert shown[0].stdout == shown[1].stdout == sweep("show", "tiny", "--json", cwd=tmp_path).stdout
    again = sweep("copy", "tiny", "--to", database, cwd=tmp_path)
    assert (again.returncode, len(again.stderr.splitlines())) == (4, 1)
    assert "has a study 'tiny' already" in again.stderr
    same = sweep("copy", "tiny", "--to", "sqlite:///rank-sweep.db", cwd=tmp_path)
    assert "is where study tiny is stored already" in same.stderr
    none = sweep("copy", "tinny", "--to", database, cwd=tmp_path)
    assert "did you mean 'tiny'?" in none.stderr
    goes_on = sweep("run", "tiny", "--storage", "sqlite:///other.db", *options[:1], 5, *options[2:], cwd=tmp_path)
    assert goes_on.returncode == 0, goes_on.stderr


def test_a_study_that_is_being_run_is_not_copied(stored, tmp_path, console):
    from sweep.storage.writer import study_lock

    with study_lock(log_folder(stored, "large")), pytest.raises(StorageError, match="large is being run by process"):
        copy_study("large", storage=stored, to=f"sqlite:///{tmp_path}/to.db", console=console)
