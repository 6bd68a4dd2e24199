"""A point that is added to a running study, and a trial that is taken out of it, by another process."""

import json

import pytest

from sweep.confirmation.outcome import freeze
from sweep.errors import UsageError
from sweep.results import load_results
from sweep.running import storage_watch as module
from sweep.storage import attributes
from sweep.storage.database import create_or_match_study, open_storage, open_study
from sweep.storage.requests import ON_REQUEST, add_point, drop_trial, read_requests
from sweep.storage.summary import summarize
from sweep.study.reading import load_study
from tests.support.command import SMALL, Running, sweep
from tests.support.scripted_worker import ScriptedWorker

OVERRIDES = ["space.r=[1, 16]", "search.points_per_rank=3", "search.trials=6", "budget.steps=4", "learner.pack_size=1"]
POINT = {"r": 16, "alpha": 64, "learning_rate": 1e-3}


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    return load_study("tiny", OVERRIDES)


@pytest.fixture
def stored(tmp_path):
    """The same study, as another process opens it."""
    return lambda: open_study(open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=False), "tiny")


class Asked(ScriptedWorker):
    """Something is asked of the study when its trials have done so many steps in all."""

    def __init__(self, reward, *, at, ask, **options):
        super().__init__(reward, **options)
        self.at, self.ask = at, ask

    def _round(self):
        super()._round()
        if sum(self._steps.values()) >= self.at and self.ask is not None:
            ask, self.ask = self.ask, None
            ask()


def reward(spec, step):
    return 0.4 + spec.lora.r / 100 + step / 1000


def test_an_added_point_comes_next_besides_the_trials_that_were_declared(config, supervise, stored):
    study = supervise(config, Asked(reward, slots=1, at=2, ask=lambda: add_point(stored(), POINT)))
    assert len(study.trials) == 7
    [added] = [trial for trial in study.trials if attributes.ADDED in trial.user_attrs]
    assert (added.params, added.state.name) == (POINT, "COMPLETE")
    assert added.number < 6, "it did not wait for the design to end"
    assert read_requests(study).added == 1


def test_ranks_are_compared_without_it(config, supervise, stored, tmp_path):
    lucky = Asked(
        lambda spec, step: 0.4 if spec.number != 1 else 0.9, slots=1, at=1, ask=lambda: add_point(stored(), POINT)
    )
    study = supervise(config, lucky)
    summary = summarize(study)
    added = next(trial for trial in summary.trials if trial.added)
    assert added.value == 0.9
    assert all(0.9 not in rank.values for rank in summary.ranks)
    assert [rank.n for rank in summary.ranks] == [3, 3]
    assert all(frozen.smoothed < 0.5 for frozen in freeze(summary, config).frozen)
    frame = load_results(f"sqlite:///{tmp_path}/rank-sweep.db", "tiny").trials
    assert frame.added.tolist() == [trial.added for trial in summary.trials]
    listed = sweep("trials", "tiny", cwd=tmp_path).stdout
    assert listed.count("complete+") == 1


class Dropping(Asked):
    """Ends a trial that it is told to drop, as a learner does."""

    def send(self, k, message):
        from objectives.trial.messages import Drop, Failed, SlotFree

        super().send(k, message)
        if isinstance(message, Drop):
            del self._specs[message.number]
            self._out += [Failed(number=message.number, kind="dropped", message=ON_REQUEST), SlotFree()]


def test_a_dropped_trial_ends_as_failed_and_is_not_run_again(config, supervise, stored):
    study = supervise(config, Dropping(reward, slots=2, at=2, ask=lambda: drop_trial(stored(), 0)))
    dropped = study.trials[0]
    assert (dropped.state.name, dropped.user_attrs[attributes.REASON]) == ("FAIL", ON_REQUEST)
    assert attributes.REDONE not in dropped.user_attrs
    assert [trial.state.name for trial in study.trials[1:]] == ["COMPLETE"] * 5


def test_a_dropped_trial_that_is_lost_meanwhile_is_not_run_again_either(config, stored, supervise):
    study = supervise(config, ScriptedWorker(reward, slots=1))
    trial = study.ask()
    drop_trial(stored(), trial.number)
    from sweep.search.schedule import record_failure

    record_failure(study, trial.number, "the supervisor was killed", again=True)
    assert not [other for other in study.trials if other.state.name == "WAITING"]


def test_a_trial_that_waits_is_dropped_at_once_and_one_that_ended_is_refused(config, stored, supervise):
    study = supervise(config, ScriptedWorker(reward, slots=1))
    number = add_point(stored(), POINT)
    assert drop_trial(stored(), number) == f"trial {number} will not be run"
    assert study.trials[number].state.name == "FAIL"
    with pytest.raises(UsageError, match=r"trial 0 has ended \(complete\); allowed: one that runs or waits"):
        drop_trial(stored(), 0)
    with pytest.raises(UsageError, match="trial 99; study 'tiny' has trials 0 to 6"):
        drop_trial(stored(), 99)


def test_a_running_trial_that_is_dropped_and_then_lost_leaves_as_many_trials_as_were_declared(
    config, supervise, stored
):
    from sweep.running.worker_process import WorkerDiedError

    class Dies(Asked):
        died = False

        def receive(self, timeout_s):
            if self.ask is None and not self.died:
                self.died = True
                self._specs.clear()
                return 0, WorkerDiedError("it died", reward=None, loading=False)
            return super().receive(timeout_s)

    study = supervise(config, Dies(reward, slots=1, at=2, ask=lambda: drop_trial(stored(), 0)))
    assert len([trial for trial in study.trials if attributes.REDONE not in trial.user_attrs]) == 6


def test_a_confirmation_trial_that_waits_and_is_dropped_is_done_without(config, supervise, stored):
    from sweep.confirmation.schedule import ConfirmSchedule
    from sweep.statistics.smoothing import FrozenConfiguration

    frozen = [
        FrozenConfiguration(r=r, alpha=64, learning_rate=1e-3, smoothed=0.5, search_mean=0.5, n_search_trials=3)
        for r in (1, 16)
    ]
    schedule = ConfirmSchedule(config, frozen, seeds=3)
    worker = Asked(reward, slots=1, at=2, ask=lambda: drop_trial(stored(), 5))
    study = supervise(config, worker, schedule=schedule)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5 + ["FAIL"]
    schedule.queue(study)
    assert len(study.trials) == 6, "it is not queued again"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["r=8", "alpha=16", "learning_rate=0.001"], "r=8; allowed, for it is the ladder of the study: 1, 16"),
        (["r=16", "alpha=64"], "a point needs learning_rate too, as in learning_rate="),
        (["r=16", "r=1"], "'r=1'; allowed: each of r=..., alpha=..., learning_rate=... once"),
        (["rank=16"], "'rank=16'; allowed: each of r=..., alpha=..., learning_rate=... once"),
        (["r=many"], "r=many; allowed, for it is the ladder of the study: 1, 16"),
    ],
)
def test_what_is_no_point_of_the_study_is_refused_in_one_line(tmp_path, words, told):
    create_or_match_study(
        open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=True), load_study("tiny", OVERRIDES), None
    )
    done = sweep("add", "tiny", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr


@pytest.mark.long
def test_both_from_another_terminal(tmp_path):
    """A running study of real trials: one is ended at its next step, another is added and run."""
    options = [*SMALL, "--set", "budget.steps=400", "--set", "learner.pack_size=1", "--trials", "2", "--set",
               "search.points_per_rank=1"]  # fmt: skip
    running = Running("run", "tiny", *options, cwd=tmp_path)
    try:
        running.wait_for("step 100/400")
        added = sweep("add", "tiny", "r=16", "alpha=16", "learning_rate=0.001", cwd=tmp_path)
        assert added.stdout.startswith("queued as trial 1: r=16 alpha=16 learning_rate=0.001"), added.stderr
        assert sweep("drop", "tiny", "0", cwd=tmp_path).stdout == "trial 0 ends at its next step\n"
        running.wait_for("dropped on request")
        running.wait_for("trial 1  r=16 alpha=16")
        assert running.process.wait(300) == 0, running.output.read_text()
    finally:
        running.end()
    trials = json.loads(sweep("trials", "tiny", "--json", cwd=tmp_path).stdout)
    assert [(trial["state"], trial["added"]) for trial in trials] == [
        ("fail", False), ("complete", True), ("complete", False)
    ]  # fmt: skip
