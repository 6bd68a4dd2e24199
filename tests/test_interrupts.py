"""Ctrl-C while a worker is being started: nothing is lost, and nobody prints a traceback."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from multiprocessing.process import BaseProcess

import pytest

from sweep.running.interrupts import HELD, Deferred, held_back
from sweep.running.scratch import PREFIX
from sweep.running.worker_process import WorkerProcess
from sweep.study.reading import load_study

CHILD = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= {2, 15})"


@pytest.mark.parametrize("number", HELD)
def test_a_signal_waits_for_the_end_of_the_block(number):
    told = []
    before = signal.signal(number, lambda *_: told.append("handled"))
    try:
        with held_back():
            os.kill(os.getpid(), number)
            told.append("block ended")
        assert told == ["block ended", "handled"]
        os.kill(os.getpid(), number)
        assert told == ["block ended", "handled", "handled"]
    finally:
        signal.signal(number, before)


def test_a_process_that_is_started_in_it_begins_undisturbed():
    with held_back():
        started = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert started.stdout.strip() == "True"
    after = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert after.stdout.strip() == "False"


def test_what_was_raised_in_it_is_passed_on_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(OSError, match="no room"), held_back():
        raise OSError("no room")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", HELD)
def test_a_first_signal_is_noted_and_stops_what_asks(number):
    before, deferred = signal.getsignal(number), Deferred()
    deferred.begin()
    try:
        deferred.check()
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            deferred.check()
        deferred.check()
    finally:
        deferred.end()
    assert signal.getsignal(number) is before


def test_a_second_signal_stops_at_once():
    deferred = Deferred()
    deferred.begin()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            deferred.check()
    finally:
        deferred.end()


def test_a_signal_that_stopped_nothing_is_passed_on():
    told = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("handled"))
    try:
        deferred = Deferred()
        deferred.begin()
        os.kill(os.getpid(), signal.SIGTERM)
        assert told == []
        deferred.end()
        assert told == ["handled"]
    finally:
        signal.signal(signal.SIGTERM, before)


class _CollectedAt:
    """Is collected while a signal comes: what its handler raises is dropped by Python."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_comes_while_garbage_is_collected_is_not_lost():
    deferred = Deferred()
    deferred.begin()
    try:
        _CollectedAt()
        with pytest.raises(KeyboardInterrupt):
            deferred.check()
    finally:
        deferred.end()


def test_a_signal_while_a_worker_is_started_leaves_none_behind(monkeypatch, tmp_path):
    start = BaseProcess.start

    def interrupted(process):
        start(process)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(BaseProcess, "start", interrupted)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        WorkerProcess(load_study("tiny").worker_settings(tmp_path), tmp_path / "worker.log")
    assert not multiprocessing.active_children()
    assert not list(tmp_path.glob(f"{PREFIX}*"))
