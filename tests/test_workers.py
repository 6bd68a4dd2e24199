"""Several workers under one supervisor: who starts, who gets trials, who dies and what is made of it."""

from dataclasses import replace

import pytest

from sweep.errors import StudyFileError, TrialsFailedError
from sweep.running.roster import Roster
from sweep.search.schedule import ended_trials
from sweep.storage import attributes
from sweep.study.reading import load_study
from tests.support.scripted_crew import ScriptedCrew
from tests.test_progress import READY

OVERRIDES = ["space.r=[1, 16]", "search.points_per_rank=3", "search.trials=12", "budget.steps=4", "learner.pack_size=1"]


@pytest.fixture
def config():
    return load_study("tiny", OVERRIDES)


def reward(spec, step):
    return 0.4 + spec.lora.r / 100 + step / 1000


def test_all_workers_run_trials_and_the_first_loads_alone(config, supervise):
    crew = ScriptedCrew(reward, count=3)
    study = supervise(config, crew)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 12
    assert crew.started == [0, 1, 2]
    ran = [trial.user_attrs[attributes.WORKER] for trial in study.trials]
    assert set(ran) == {100, 101, 102}
    assert max(ran.count(worker) for worker in set(ran)) <= 6
    assert study.user_attrs[attributes.FACTS]["workers"] == 3


def test_no_more_workers_are_started_than_trials_keep_busy(supervise):
    crew = ScriptedCrew(reward, count=4)
    supervise(load_study("tiny", [*OVERRIDES, "search.trials=2"]), crew)
    assert crew.started == [0, 1]


def test_the_same_trials_come_out_whoever_runs_them(config, supervise, tmp_path):
    alone = supervise(config, ScriptedCrew(reward, count=1))
    design = {trial.number for trial in alone.trials if attributes.DESIGN in trial.user_attrs}
    points = sorted((t.params["r"], t.params["learning_rate"], t.value) for t in alone.trials if t.number in design)
    (tmp_path / "rank-sweep.db").unlink()
    shared = supervise(config, ScriptedCrew(reward, count=4))
    design = {trial.number for trial in shared.trials if attributes.DESIGN in trial.user_attrs}
    assert points == sorted(
        (t.params["r"], t.params["learning_rate"], t.value) for t in shared.trials if t.number in design
    )


class Dying(ScriptedCrew):
    """One of its workers dies again and again in the middle of its first trial."""

    def __init__(self, *arguments, victim, times, how=None, **options):
        super().__init__(*arguments, **options)
        self.victim, self.times, self.how = victim, times, how or {}

    def send(self, k, message):
        super().send(k, message)
        if k == self.victim and self.times:
            self.times -= 1
            self.kill(k, **self.how)


def test_a_worker_that_dies_is_started_again_and_its_trial_is_run_again_by_whoever_is_free(config, supervise):
    crew = Dying(reward, count=2, victim=1, times=1)
    study = supervise(config, crew)
    assert crew.started == [0, 1, 1]
    lost = [trial for trial in study.trials if trial.state.name == "FAIL"]
    assert [trial.user_attrs[attributes.REASON] for trial in lost] == ["it died"]
    assert len(ended_trials(study)) == 12
    assert len([trial for trial in study.trials if trial.state.name == "COMPLETE"]) == 12


def test_a_worker_that_always_dies_is_given_up_and_the_others_go_on(config, supervise):
    crew = Dying(reward, count=2, victim=1, times=99)
    study = supervise(config, crew)
    assert crew.started == [0, 1, 1, 1]
    assert len([trial for trial in study.trials if trial.state.name == "COMPLETE"]) == 12, "others run what it held"
    assert len(ended_trials(study)) == 12


@pytest.mark.parametrize("how", [{"loading": True}, {}])
def test_the_last_worker_that_cannot_go_on_ends_the_study(config, supervise, how):
    with pytest.raises(TrialsFailedError, match="it died"):
        supervise(config, Dying(reward, count=1, victim=0, times=99, how=how))


def test_a_reward_that_ends_its_worker_ends_the_study_at_once(config, supervise):
    crew = Dying(reward, count=2, victim=1, times=1, how={"reward": "mine"})
    with pytest.raises(TrialsFailedError, match="it died"):
        supervise(config, crew)


def test_a_kill_in_a_reward_may_have_been_anybodys_and_two_are_the_rewards(config, supervise):
    how = {"reward": "mine", "killed": True}
    assert len(ended_trials(supervise(config, Dying(reward, count=2, victim=1, times=1, how=how)))) == 12
    with pytest.raises(TrialsFailedError, match="it died"):
        supervise(
            load_study("tiny", [*OVERRIDES, "study.name=twice"]), Dying(reward, count=1, victim=0, times=2, how=how)
        )


def test_a_worker_whose_trials_get_further_between_its_deaths_is_not_given_up(config, supervise):
    """Killed ten times, as where memory is short once an hour; each time the trial goes on above where it was."""
    from objectives.trial.messages import Resumed, Start

    class Surviving(Dying):
        reached = 0

        def send(self, k, message):
            if isinstance(message, Start) and self.times:
                self.reached += 1
                self.members[k]._out.append(Resumed(number=message.spec.number, step=self.reached, curve=()))
            super().send(k, message)

        def receive(self, timeout_s):
            heard = None
            if self.deaths and self.members[self.victim]._out:
                heard = self._hear(self.victim)
            return heard or super().receive(timeout_s)

    crew = Surviving(reward, count=1, victim=0, times=10)
    study = supervise(config, crew)
    assert len(crew.started) == 11
    assert len([trial for trial in study.trials if trial.state.name == "COMPLETE"]) == 12


def test_what_a_given_up_worker_still_says_nobody_hears(config, supervise):
    """Refused when it said that it was ready, in one batch with a slot to fill."""
    facts = {0: {"versions": {"vllm": "1"}}, 1: {"versions": {"vllm": "2"}}}

    class Talking(ScriptedCrew):
        def stop(self, k):
            return  # it has messages under way

    study = supervise(config, Talking(reward, count=2, facts=facts))
    assert len([trial for trial in study.trials if trial.state.name == "COMPLETE"]) == 12


def test_a_machine_that_comes_back_gets_a_worker_again():
    roster = Roster(2, slots=1)
    assert list(roster.wanted(trials=9, count=2)) == [1]
    assert roster.give_up(1) == 1
    assert list(roster.wanted(trials=9, count=2)) == []
    assert list(roster.wanted(trials=9, count=1)) == []
    assert list(roster.wanted(trials=9, count=2)) == [1]


@pytest.mark.parametrize("count", ["0", "-1", "two", "true", "1.5"])
def test_what_is_no_number_of_workers_is_told_in_one_line(count):
    with pytest.raises(StudyFileError, match=r"allowed: 'auto', or a whole number from 1"):
        load_study("tiny", [f"run.workers={count}"])


@pytest.mark.parametrize(
    "unlike",
    [{"facts": {0: {"versions": {"vllm": "1"}}, 1: {"versions": {"vllm": "2"}}}}, {"baseline_shift": {1: 0.2}}],
)
def test_a_worker_that_computes_otherwise_than_the_first_gets_no_trial(config, supervise, unlike):
    crew = ScriptedCrew(reward, count=2, **unlike)
    study = supervise(config, crew)
    assert {trial.user_attrs[attributes.WORKER] for trial in study.trials} == {100}
    assert crew.alive == {0}


def test_rounding_between_processors_is_no_difference():
    roster = Roster(2, slots=1)
    assert not roster.unlike_the_first(READY)
    moved = replace(READY.baseline, sampled=READY.baseline.sampled + 0.003)
    assert not roster.unlike_the_first(replace(READY, baseline=moved))


def test_a_plan_says_what_several_workers_take_and_bring(config, tmp_path):
    from tests.support.command import sweep

    alone, shared = (
        sweep("plan", "tiny", *options, cwd=tmp_path).stdout for options in ((), ("--set", "run.workers=2"))
    )
    assert "workers" not in alone
    assert "2, each with its own model and engine, 1.8 GiB of memory in all" in " ".join(shared.split())
    assert len(shared.splitlines()) <= 24
    many = sweep("plan", "tiny", "--set", "run.workers=99", cwd=tmp_path).stdout
    assert "note: run.workers=99; this machine has" in " ".join(many.split())
