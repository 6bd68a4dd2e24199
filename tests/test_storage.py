import os
import sqlite3
import subprocess
import sys

import optuna
import pytest
from optuna.testing.pytest_storages import StorageTestCase

from sweep.errors import MissingExtraError, StorageError, StudyMismatchError
from sweep.storage.address import hide_password
from sweep.storage.database import (
    changed_keys,
    create_or_match_study,
    log_folder,
    open_storage,
    open_study,
)
from sweep.storage.network_disk import magic_number, network_disk
from sweep.storage.writer import study_lock
from sweep.study.reading import load_study


class TestOurStorage(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path):
        return open_storage(f"sqlite:///{tmp_path}/sweep.db", create=True)


def matched(storage, *overrides):
    return create_or_match_study(storage, load_study("tiny", list(overrides)), optuna.samplers.RandomSampler())


def test_a_sqlite_file_is_in_wal_mode(tmp_path):
    open_storage(f"sqlite:///{tmp_path}/sweep.db", create=True)
    with sqlite3.connect(tmp_path / "sweep.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_study_goes_on_where_its_settings_are_the_same(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/sweep.db", create=True)
    matched(storage)
    assert matched(storage, "search.trials=50").study_name == "tiny"
    assert matched(storage, "learner.pack_size=2").study_name == "tiny"


def test_a_changed_study_is_refused_with_what_changed(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/sweep.db", create=True)
    matched(storage).ask()
    with pytest.raises(StudyMismatchError, match=r"budget\.steps: 80 -> 40; space\.r: \[1, 4, 16, 64\] -> \[1, 4\]"):
        matched(storage, "budget.steps=40", "space.r=[1, 4]")


def test_a_study_that_no_trial_was_started_of_may_become_another(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/sweep.db", create=True)
    matched(storage, "budget.steps=40")
    assert matched(storage).user_attrs["config"]["budget"]["steps"] == 80


def test_changes_name_sections_that_only_one_side_has():
    assert changed_keys({"a": {"x": 1}}, {"b": {"y": None, "z": 2}}) == ["a.x: 1 -> null", "b.z: null -> 2"]


def test_reading_a_storage_that_is_not_there_makes_none(tmp_path):
    with pytest.raises(StorageError, match="no storage at"):
        open_storage(f"sqlite:///{tmp_path}/none.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/sweep.db", create=True)
    matched(storage)
    with pytest.raises(StorageError, match=r"no study 'tinny' in this storage; did you mean 'tiny'\? it has: tiny"):
        open_study(storage, "tinny")


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/x.db", "postgresql://me:secret@localhost/x"])
def test_a_storage_that_cannot_be_opened_is_one_line_without_its_password(url):
    with pytest.raises(StorageError) as caught:
        open_storage(url, create=True)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_passwords_are_hidden():
    assert hide_password("mysql://me:secret@host/db") == "mysql://me:***@host/db"
    assert hide_password("postgresql://host/db?user=me&password=secret&x=1") == (
        "postgresql://host/db?user=me&password=***&x=1"
    )
    assert hide_password("sqlite:////home/me@work/x.db") == "sqlite:////home/me@work/x.db"


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.db").write_text("not a database, but long enough to look like one" * 10)
    with pytest.raises(StorageError, match="cannot open"):
        open_storage(f"sqlite:///{tmp_path}/x.db", create=False)


def test_one_process_holds_a_study_at_a_time(tmp_path):
    program = (
        "from pathlib import Path; from sweep.storage.writer import study_lock\n"
        f"with study_lock(Path({str(tmp_path)!r})): pass"
    )
    with study_lock(tmp_path):
        blocked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert f"is being run by process {os.getpid()}" in blocked.stderr
    subprocess.run([sys.executable, "-c", program], check=True)


def test_logs_lie_beside_the_sqlite_file(tmp_path):
    assert log_folder(f"sqlite:///{tmp_path}/a.db", "tiny") == tmp_path / "a.logs" / "tiny"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://me:secret@host:5432/sweeps?sslmode=require", "rank-sweep-host-5432-sweeps"),
        ("postgresql+psycopg://host/other", "rank-sweep-host-other"),
        ("postgresql:///sweeps?host=/run/postgresql", "rank-sweep-sweeps"),
        ("mysql://me:a@b@[::1]:3306/../up", "rank-sweep-1-3306-..-up"),
        ("postgresql://", "rank-sweep-server"),
    ],
)
def test_logs_of_a_servers_study_lie_apart_for_each_database(tmp_path, monkeypatch, url, name):
    monkeypatch.chdir(tmp_path)
    assert log_folder(url, "tiny") == tmp_path / f"{name}.logs" / "tiny"


@pytest.mark.parametrize(
    ("magic", "name"),
    [(0x6969, "NFS"), (0x0BD00BD0, "Lustre"), (0x65735546, "FUSE"), (0xFF534D42, "CIFS"), (-11317950, "CIFS")],
)
def test_disks_on_which_sqlites_log_is_not_safe_are_known_by_their_numbers(magic, name):
    assert network_disk(magic) == name


@pytest.mark.parametrize("magic", [0xEF53, 0x01021994, 0x794C7630, 0x9123683E, 0])
def test_ext4_tmpfs_overlays_and_btrfs_are_safe(magic):
    assert network_disk(magic) is None


def test_what_a_folder_lies_on_is_asked_of_the_system(tmp_path):
    stat = subprocess.run(["stat", "-f", "-c", "%t", tmp_path], capture_output=True, text=True, check=True)
    assert magic_number(tmp_path) & 0xFFFFFFFF == int(stat.stdout, 16)
    assert magic_number(tmp_path / "none") == 0


def test_a_study_on_a_network_disk_is_refused_with_what_to_use_instead(tmp_path, monkeypatch):
    monkeypatch.setattr("sweep.storage.database.magic_number", lambda folder: 0x6969)
    with pytest.raises(StorageError, match=r"would lie on NFS, .*; allowed: a local folder, or a PostgreSQL server"):
        open_storage(f"sqlite:///{tmp_path}/x.db", create=True)


def test_a_missing_driver_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"postgresql://me:\*\*\*@host/x needs psycopg.*rank-sweep\[postgres\]"):
        open_storage("postgresql://me:secret@host/x", create=True)
