"""What a run outlives: Ctrl-C, a killed worker, a killed supervisor, trials that collapse."""

import json
import os
import signal

import optuna
import pytest

from tests.support.command import SMALL, Running, sweep
from tests.support.gate import Gate, wait_for_death

pytestmark = pytest.mark.long

ONE_BY_ONE = ["--set", "learner.pack_size=1"]


@pytest.fixture
def running(tmp_path):
    """Starts the command in the background in an empty folder, and kills what is left of it."""
    started = []

    def start(*arguments):
        at_once = () if "learner.name=trl" in arguments else ONE_BY_ONE
        started.append(Running("run", "tiny", *SMALL, *at_once, *arguments, cwd=tmp_path))
        return started[-1]

    yield start
    for command in started:
        command.end()


def load(folder):
    return optuna.load_study(study_name="tiny", storage=f"sqlite:///{folder}/rank-sweep.db")


def states(folder):
    return [trial.state.name for trial in load(folder).get_trials(deepcopy=False)]


TWO = [
    "--trials",
    "2",
    "--set",
    "space.r=[8]",
    "--set",
    "search.points_per_rank=2",
    "--set",
    "space.learning_rate=[1e-3]",
]
"""Two trials one after another, which do not collapse."""


@pytest.fixture
def second_trial(running, tmp_path):
    """Runs two trials of which the second waits in its first step; the command, and its worker's process id."""
    gate = Gate(tmp_path, trial=1)

    def start():
        command = running(*TWO, *Gate.ARGUMENTS)
        gate.wait(command)
        return command, load(tmp_path).trials[-1].user_attrs["worker"]

    start.gate, start.again = gate, lambda: running(*TWO, *Gate.ARGUMENTS)
    return start


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(second_trial, tmp_path):
    command, worker = second_trial()
    assert command.interrupt() == 130
    assert "sweep: Interrupted. Run the same command again to continue." in command.output.read_text()
    wait_for_death(worker)
    assert states(tmp_path)[0] == "COMPLETE"
    assert "RUNNING" not in states(tmp_path)
    first = load(tmp_path).trials[0]
    second_trial.gate.open()
    again = second_trial.again()
    assert again.process.wait(180) == 0
    assert "1 done" in again.output.read_text()
    trials = load(tmp_path).trials
    assert trials[0].value == first.value
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    lost = [trial for trial in trials if trial.state.name == "FAIL"]
    assert len(complete) == 2
    assert [trial.user_attrs["reason"] for trial in lost] == ["interrupted"]
    assert complete[1].params == lost[0].params
    assert complete[1].user_attrs["seed"] == lost[0].user_attrs["seed"]


def test_a_worker_killed_in_a_reward_once_may_have_been_anybodys_and_the_study_goes_on(second_trial, tmp_path):
    command, worker = second_trial()
    os.kill(worker, signal.SIGKILL)
    assert command.process.wait(240) == 0
    output = " ".join(command.output.read_text().split())
    assert "killed by SIGKILL while calling the reward reward, in step 1 of trial 1" in output
    assert "It had reached" in output
    assert "starting another" in output
    assert states(tmp_path) == ["COMPLETE", "FAIL", "COMPLETE"]


KILLED = """
import os
import signal

from objectives import stages


def reward(completions, answer, **columns):
    # While TRL trains a trial, what the worker prints goes to the trial's log.
    if os.readlink("/proc/self/fd/1").endswith("trial-0000.log"):
        stages.listen(dies_outside(stages._listener))
    return [float(completion == right) + len(completion) / 100 for completion, right in zip(completions, answer)]


def dies_outside(tell):
    def listener(stage):
        tell(stage)
        if stage.reward is None:
            os.kill(os.getpid(), signal.SIGKILL)

    return listener
"""
"""A reward whose worker is killed in trial 0 as soon as it has told that it is out of the reward again."""


def test_a_killed_worker_fails_its_trial_with_a_reason_and_is_replaced(running, tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    command = running(*TWO, "--set", "task.reward=['killed:reward']", "--set", "learner.name=trl")
    assert command.process.wait(240) == 0
    trials = load(tmp_path).trials
    worker = trials[0].user_attrs["worker"]
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert "killed by SIGKILL" in trials[0].user_attrs["reason"]
    assert trials[1].params == trials[0].params
    assert trials[1].user_attrs["worker"] != worker


def test_a_killed_supervisor_takes_its_worker_along_and_loses_nothing_finished(second_trial, tmp_path):
    command, worker = second_trial()
    command.kill()
    wait_for_death(worker)
    assert states(tmp_path) == ["COMPLETE", "RUNNING"]
    second_trial.gate.open()
    assert second_trial.again().process.wait(180) == 0
    trials = load(tmp_path).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trials[1].user_attrs["reason"] == "the supervisor was killed"
    assert trials[2].params == trials[1].params


def test_a_study_of_collapsing_trials_shows_them_as_collapsed(running, tmp_path):
    command = running(
        "--trials", 1, "--set", "space.r=[8]", "--set", "space.alpha=[64]", "--set", "space.learning_rate=[0.5]",
        "--set", "search.points_per_rank=1", "--set", "budget.steps=40",
    )  # fmt: skip
    assert command.process.wait(180) == 0
    [trial] = load(tmp_path).trials
    assert trial.state.name == "PRUNED"
    assert trial.user_attrs["reason"].startswith("collapsed at step")
    assert len(trial.intermediate_values) < 40
    shown = json.loads(sweep("show", "tiny", "--json", cwd=tmp_path).stdout)
    assert shown["ranks"][0]["collapsed"] == 1
    assert shown["trials"][0]["value"] < shown["baseline"] / 2
