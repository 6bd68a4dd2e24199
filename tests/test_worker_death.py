"""What is said of a worker that dies or hangs: the stage, the cause, and what to do."""

import time

import pytest

from objectives.stages import Stage
from objectives.trial.messages import SlotFree, Start, TrialSpec
from sweep.errors import TrialsFailedError
from sweep.running.worker_death import explain_death, last_frame
from sweep.running.worker_process import WorkerDiedError, WorkerProcess
from sweep.running.worker_watch import WorkerWatch
from sweep.running.workers import LocalWorkers
from sweep.storage.database import open_storage, open_study
from sweep.study.reading import load_study
from tests.support import dying_worker

WHERE = {
    "starting": "while starting up",
    "importing Unsloth": "while importing Unsloth",
    "starting the engine": "while starting the engine",
    "scoring the base policy": "while scoring the base policy",
    "step": "in step 2 of trial 3",
    "reward": "while calling the reward mine, in step 2 of trial 3",
}
CAUSES = {
    "SIGILL": "killed by SIGILL",
    "SIGSEGV": "killed by SIGSEGV",
    "SIGABRT": "killed by SIGABRT",
    "SIGKILL": "killed by SIGKILL",
    "exit": "ended with exit code 7",
}
REMEDIES = {
    "SIGILL": "`sweep doctor`",
    "SIGSEGV": "`sweep doctor`",
    "SIGABRT": "the log",
    "SIGKILL": "learner.pack_size",
    "exit": "os._exit",
}


@pytest.fixture
def death_of(monkeypatch, tmp_path):
    """Has a worker die in a stage, and returns what its supervisor hears of it."""
    monkeypatch.setattr("sweep.running.worker_process._run", dying_worker.run)

    def death_of(stage, how):
        name = f"{stage}.{how}".replace(" ", "_")
        settings = load_study("tiny", [f"study.name={name}"]).worker_settings(tmp_path)
        with pytest.raises(WorkerDiedError) as death, WorkerProcess(settings, tmp_path / "worker.log") as worker:
            while True:
                if isinstance(worker.wait(), SlotFree):
                    worker.send(Start(spec=TrialSpec(number=3, lora=dying_worker.LORA, learning_rate=1e-3, seed=0)))
        return death.value

    return death_of


@pytest.mark.parametrize("stage", dying_worker.STAGES)
def test_a_death_names_stage_cause_and_remedy(death_of, stage):
    for how, cause in CAUSES.items():
        death = death_of(stage, how)
        told = str(death)
        assert WHERE[stage] in told, told
        assert cause in told, told
        assert REMEDIES[how] in told, told
        assert "\n" not in told
        assert death.loading == (stage not in {"step", "reward"})
        assert death.reward == ("mine" if stage == "reward" else None)
        if how in {"SIGILL", "SIGSEGV", "SIGABRT"}:
            assert "dying_worker.py:" in told, told


def test_a_reward_that_hangs_is_ended_near_its_limit_and_named(death_of):
    began = time.monotonic()
    death = death_of("reward", "hang")
    assert str(death).startswith("reward mine took longer than reward_timeout_s=0.1"), death
    assert death.reward == "mine"
    assert time.monotonic() - began < 60


def test_a_worker_that_dies_while_loading_is_not_started_again(monkeypatch, supervise_process):
    with pytest.raises(TrialsFailedError, match="killed by SIGILL while importing Unsloth") as failure:
        supervise_process("importing_Unsloth.SIGILL")
    assert "worker-" in str(failure.value)
    assert supervise_process.started == 1


def test_a_reward_that_kills_its_worker_stops_the_study_and_its_trial_is_run_again(supervise_process):
    with pytest.raises(TrialsFailedError, match="while calling the reward mine"):
        supervise_process("reward.SIGSEGV")
    assert supervise_process.started == 1
    states = [trial.state.name for trial in supervise_process.stored().trials]
    assert states.count("FAIL") == 1
    assert "WAITING" in states


def test_a_worker_that_dies_in_a_step_is_replaced_twice(supervise_process):
    with pytest.raises(TrialsFailedError, match="3 workers died one after another"):
        supervise_process("step.SIGSEGV")
    assert supervise_process.started == 3


def test_a_log_without_a_crash_names_no_frame(tmp_path):
    assert last_frame(tmp_path / "absent.log") == ""
    (tmp_path / "worker.log").write_text('Traceback:\n  File "x.py", line 3 in f\n')
    assert last_frame(tmp_path / "worker.log") == ""


def test_a_kill_tells_the_memory_that_was_reached_and_the_memory_there_is(tmp_path):
    told = explain_death(-9, where="in step 2 of trial 1", reward=None, log=tmp_path, memory=3 << 30, limit=4 << 30)
    assert "It had reached 3.0 GiB of the 4.0 GiB there are" in told


@pytest.fixture
def supervise_process(monkeypatch, supervise, tmp_path):
    """Runs a study on real processes that play a worker, and counts how many were started."""
    monkeypatch.setattr("sweep.running.worker_process._run", dying_worker.run)

    class Counted:
        started = 0

        def __call__(self, name):
            config = load_study("tiny", [f"study.name={name}", "search.trials=8", "budget.steps=4"])
            self.name = name
            supervise(config, self._start)

        def stored(self):
            return open_study(open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=False), self.name)

        def _start(self, settings, logs):
            counted = self

            class Counting(LocalWorkers):
                def start(self, k):
                    counted.started += 1
                    super().start(k)

            return Counting(settings, logs)

    return Counted()


def test_an_import_that_hangs_is_told_once_its_limit_is_over(monkeypatch):
    watch = WorkerWatch()
    watch.received(Stage(doing="importing mine:right", limit_s=300.0))
    assert watch.hangs == ""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 303)
    assert watch.hangs.startswith("importing mine:right took longer than 300 s")
