"""Studies on a real PostgreSQL server: one writer, faults of the server, and what a user is told."""

import logging
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState

from sweep.doctor.storage import storage_checks
from sweep.errors import StorageError
from sweep.running.recipe import open_to_run
from sweep.search.schedule import PointCount, next_trial
from sweep.storage.address import driver_url, patience_s
from sweep.storage.attributes import REDONE, SEED, WRITER
from sweep.storage.database import log_folder, open_storage, open_study
from sweep.storage.server import writing_storage
from sweep.storage.writer import sole_writer
from sweep.study.reading import load_study
from tests.support.command import SMALL, sweep
from tests.support.postgres import PASSWORD


class TestReadersOnAServer(StorageTestCase):
    @pytest.fixture
    def storage(self, database):
        storage = open_storage(database, create=True)
        yield storage
        storage.engine.dispose()


class TestWriterOnAServer(StorageTestCase):
    @pytest.fixture
    def storage(self, database):
        opened = open_storage(database, create=True)
        opened.engine.dispose()
        storage = writing_storage(opened)
        yield storage
        storage.engine.dispose()


@pytest.fixture
def config():
    return load_study("tiny")


@pytest.fixture
def written(database, config, tmp_path, monkeypatch):
    """A study that this process writes."""
    monkeypatch.chdir(tmp_path)
    with open_to_run(config, open_storage(f"{database}?patience_s=20", create=True)) as run:
        yield run.study


def another_process(database, folder):
    """Tries to write the study, as another process; what came of it."""
    program = (
        "from sweep.running.recipe import open_to_run\nfrom sweep.storage.database import open_storage\n"
        "from sweep.study.reading import load_study\n"
        f"with open_to_run(load_study('tiny'), open_storage({database!r}, create=True)): print('written')"
    )
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)


class Relay:
    """A way to the server that can be cut at any byte, as a network can."""

    def __init__(self, port):
        self._port, self._open = port, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut_after = []
        """Of what is sent to the server: once these have come by in turn, the answer to the last one never does."""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            self._open += [near, far]
            threading.Thread(target=self._up, args=(near, far), daemon=True).start()
            threading.Thread(target=self._down, args=(far, near), daemon=True).start()

    def _up(self, near, far):
        try:
            while data := near.recv(65536):
                lost = False
                if self.cut_after and self.cut_after[0] in data:
                    del self.cut_after[0]
                    lost = not self.cut_after
                if lost:
                    near.shutdown(socket.SHUT_RDWR)
                far.sendall(data)
                if lost:
                    time.sleep(0.3)  # the server gets it, and works
                    break
        except OSError:
            pass
        for end in (near, far):
            end.close()

    def _down(self, far, near):
        try:
            while data := far.recv(65536):
                near.sendall(data)
        except OSError:
            pass

    def close(self):
        self._listener.close()
        for end in self._open:
            end.close()


@pytest.fixture
def relay(server):
    relay = Relay(server.port)
    yield relay
    relay.close()


def test_urls_are_brought_to_our_driver_and_keep_nothing_of_ours():
    assert driver_url("postgresql://me:pw@host/db?patience_s=9&sslmode=require") == (
        "postgresql+psycopg://me:pw@host/db?sslmode=require"
    )
    assert driver_url("postgres://host/db?patience_s=9") == "postgresql+psycopg://host/db"
    assert driver_url("sqlite:///x.db") == "sqlite:///x.db"
    assert (patience_s("postgresql://host/db?patience_s=9"), patience_s("postgresql://host/db")) == (9, 300)
    with pytest.raises(StorageError, match=r"patience_s=soon in the storage's URL; allowed"):
        patience_s("postgresql://host/db?patience_s=soon")


def test_a_second_process_is_refused_and_told_who_holds_the_study(written, database, tmp_path):
    refused = another_process(database, tmp_path)
    assert f"study tiny is being run by {written.user_attrs[WRITER].partition(',')[0]}" in refused.stderr
    assert "wait for it or stop it" in refused.stderr


def test_a_study_is_written_once_by_a_process_too(written, database, tmp_path):
    with pytest.raises(StorageError, match="is being run by this very process"):
        sole_writer(open_storage(database, create=True), "tiny", logs=tmp_path / "tiny").__enter__()


def test_the_doctor_looks_into_a_server(written, database, server):
    [check] = storage_checks(database)
    assert "opens, 1 study" in repr(check)
    [refused] = storage_checks(server.url(password="hunter2"))
    assert "password authentication failed" in repr(refused)
    assert "hunter2" not in repr(refused)
    assert PASSWORD not in repr(check)


def test_another_study_of_the_server_may_be_written_meanwhile(written, database, tmp_path):
    with sole_writer(open_storage(database, create=True), "other", logs=tmp_path / "other") as writer:
        assert optuna.create_study(study_name="other", storage=writer.storage).ask().number == 0


def test_a_holder_that_is_killed_leaves_the_study_at_once(database, tmp_path):
    program = (
        "import time\nfrom sweep.storage.database import open_storage\nfrom sweep.storage.writer import sole_writer\n"
        "from pathlib import Path\n"
        f"with sole_writer(open_storage({database!r}, create=True), 'tiny', logs=Path('logs')):\n"
        "    print('held', flush=True)\n    time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    storage = open_storage(database, create=True)
    with pytest.raises(StorageError, match=f"being run by process {holder.pid} on "):
        sole_writer(storage, "tiny", logs=tmp_path / "logs").__enter__()
    holder.kill()
    holder.wait()
    started = time.monotonic()
    while True:
        try:
            with sole_writer(storage, "tiny", logs=tmp_path / "logs"):
                break
        except StorageError:
            assert time.monotonic() - started < 5
    assert time.monotonic() - started < 2


def test_a_study_outlasts_a_restart_of_the_server(written, server, config, database, tmp_path, caplog):
    optuna_trial, points = next_trial(written, config, PointCount()), PointCount()
    server.stop()
    threading.Timer(1.5, server.start).start()
    with caplog.at_level(logging.WARNING):
        optuna_trial.report(0.5, 1)
        optuna_trial.set_user_attr("scores", [])
        written.tell(optuna_trial, 0.25)
        second = next_trial(written, config, points)
    assert "the storage does not answer, trying again for 20 s" in caplog.text
    assert PASSWORD not in caplog.text
    stored = open_study(open_storage(database, create=False), "tiny").trials
    assert [(trial.state, trial.value) for trial in stored] == [(TrialState.COMPLETE, 0.25), (TrialState.RUNNING, None)]
    assert stored[0].intermediate_values == {1: 0.5}
    assert stored[1].params == second.params
    assert another_process(database, tmp_path).returncode != 0, "the lock was taken again"


def test_a_server_that_stays_away_is_one_line(written, server, config, database):
    written._storage._backend.patience_s = 1.0
    trial = next_trial(written, config, PointCount())
    server.stop()
    started = time.monotonic()
    try:
        with pytest.raises(StorageError, match=r"has not answered for 1 s: .*(refused|closed|terminat)") as caught:
            trial.report(0.5, 1)
    finally:
        server.start()
    assert PASSWORD not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert time.monotonic() - started < 10


def test_whoever_was_overtaken_while_cut_off_writes_nothing_more(written, server, config, database, tmp_path):
    trial = next_trial(written, config, PointCount())
    server.stop()
    server.start()
    assert another_process(database, tmp_path).stdout == "written\n"
    with pytest.raises(StorageError, match=r"study tiny was taken over by process \d+ on .* while the connection was"):
        trial.report(0.5, 1)
    with pytest.raises(StorageError, match="was taken over"):
        next_trial(written, config, PointCount())
    stored = open_study(open_storage(database, create=False), "tiny").trials
    assert (len(stored), stored[0].intermediate_values) == (1, {})


@pytest.mark.parametrize(
    "lost", [[b"INSERT INTO trials"], [b"INSERT INTO trials", b"COMMIT"], [b"INSERT INTO trial_params", b"COMMIT"]]
)
def test_an_ask_that_is_cut_off_anywhere_makes_one_trial(lost, relay, database, server, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = database.replace(str(server.port), str(relay.port))
    with open_to_run(config, open_storage(f"{url}?patience_s=20", create=True)) as run:
        first = next_trial(run.study, config, PointCount())
        run.study.tell(first, 0.5)
        relay.cut_after = list(lost)
        second = next_trial(run.study, config, PointCount())
        assert not relay.cut_after, "it was cut"
        run.study.tell(second, 0.75)
    stored = [t for t in open_study(open_storage(database, create=False), "tiny").trials if REDONE not in t.user_attrs]
    assert [trial.state for trial in stored] == [TrialState.COMPLETE] * 2
    assert stored[1].params == second.params
    assert SEED in stored[1].user_attrs


def test_a_tell_and_a_queued_point_whose_answers_are_lost_are_there_once(relay, database, server, config, tmp_path):
    url = database.replace(str(server.port), str(relay.port))
    opened = open_storage(f"{url}?patience_s=20", create=True)
    with sole_writer(opened, "tiny", logs=tmp_path / "logs") as writer:
        study = optuna.create_study(study_name="tiny", storage=writer.storage)
        trial = study.ask()
        relay.cut_after = [b"UPDATE trials", b"COMMIT"]
        study.tell(trial, 0.5)
        assert not relay.cut_after
        relay.cut_after = [b"INSERT INTO trials", b"COMMIT"]
        study.enqueue_trial({"r": 4}, user_attrs={SEED: 1})
        assert not relay.cut_after
    stored = open_study(open_storage(database, create=False), "tiny").trials
    waiting = [trial for trial in stored if trial.state == TrialState.WAITING]
    assert (stored[0].state, stored[0].value) == (TrialState.COMPLETE, 0.5)
    assert [trial.user_attrs for trial in waiting] == [{SEED: 1}]
    discarded = [trial for trial in stored[1:] if trial not in waiting]
    # Whether Optuna itself has stored it twice depends on which of its retries comes first.
    assert all(REDONE in trial.user_attrs and trial.state == TrialState.FAIL for trial in discarded)


def test_a_wrong_password_is_one_line_that_shows_none(server, tmp_path):
    done = sweep("run", "tiny", "--storage", server.url(password="hunter2"), cwd=tmp_path)
    assert done.returncode == 4
    assert "password authentication failed" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "hunter2" not in done.stdout + done.stderr


def test_a_host_that_does_not_answer_is_given_up_within_three_seconds(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://me:hunter2@127.0.0.1:{silent.getsockname()[1]}/x"
        started = time.monotonic()
        with pytest.raises(StorageError, match="cannot open postgresql://me:") as caught:
            open_storage(url, create=True)
        assert time.monotonic() - started < 3
    assert "timeout" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_database_that_is_not_there_is_one_line(server):
    with pytest.raises(StorageError, match='database "none" does not exist'):
        open_storage(server.url("none"), create=True)


def test_connections_that_are_exchanged_between_statements_are_refused(written, database):
    """As pgbouncer does in transaction mode: the same connection, another backend behind it."""
    engine = written._storage._backend.engine
    with engine.connect() as connection:
        record = connection.connection._connection_record
    record.info["backend"] += 1
    with pytest.raises(StorageError, match="pgbouncer's transaction mode"):
        written.ask()
    record.info["backend"] -= 1
    assert written.ask().number == 0


def test_a_study_is_run_and_shown_on_a_server(database, tmp_path):
    run = sweep(
        "run", "tiny", "--storage", database, "--trials", 4, "--set", "search.points_per_rank=1", *SMALL, cwd=tmp_path
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert PASSWORD not in run.stdout + run.stderr
    logs = tmp_path / log_folder(database, "tiny").relative_to(Path.cwd())
    assert logs.is_dir()
    shown = sweep("show", "tiny", "--storage", database, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "64" in shown.stdout
    for path in logs.rglob("*"):
        assert path.is_dir() or PASSWORD not in path.read_text(errors="replace")
