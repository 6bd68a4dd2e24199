"""The main job through the installed command: real policy, engine, trainer and storage."""

import json
import os
import re
import signal

import optuna
import pytest

from tests.support.command import SMALL, Running, sweep
from tests.support.gate import Gate, wait_for_death

ONE_BY_ONE = ["--set", "learner.pack_size=1"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder in which a small study has been run to its end."""
    folder = tmp_path_factory.mktemp("ran")
    done = sweep(
        "run", "tiny", "--trials", 5, *SMALL, "--set", "space.r=[1,64]", "--set", "search.points_per_rank=2", cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done


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


def test_a_run_ends_with_a_table_by_rank(ran):
    _, done = ran
    assert re.search(r"base policy: held-out reward 0\.\d+ sampled", done.stdout)
    assert "study tiny: held-out reward by rank" in done.stdout
    assert re.search(r"^ +1\*? +\d +\d ", done.stdout, re.MULTILINE)
    assert "[5/5] trial 4" in done.stdout


def test_every_trial_is_stored_as_any_optuna_tool_expects(ran):
    folder, _ = ran
    trials = load(folder).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 5
    for trial in trials:
        assert set(trial.params) == {"r", "alpha", "learning_rate"}
        assert trial.params["r"] <= 64 and trial.params["alpha"] <= 64
        assert sorted(trial.intermediate_values) == [1, 2, 3, 4, 5, 6]
        assert trial.value == trial.user_attrs["scores"][-1]["sampled"]
        assert len(trial.user_attrs["curve"]["reward"]) == 6
    assert len({(*trial.params.values(), trial.user_attrs["seed"]) for trial in trials}) == 5


def test_one_worker_ran_all_trials_and_each_has_its_own_log(ran):
    folder, _ = ran
    assert len({trial.user_attrs["worker"] for trial in load(folder).trials}) == 1
    for number in range(5):
        assert "step 6/6: reward" in (folder / "rank-sweep.logs" / "tiny" / f"trial-{number:04d}.log").read_text()


def test_show_prints_one_json_object(ran):
    folder, _ = ran
    shown = json.loads(sweep("show", "tiny", "--json", cwd=folder).stdout)
    assert {"study", "max_lora_rank", "baseline", "trials", "ranks"} <= shown.keys()
    assert (shown["study"], shown["max_lora_rank"], len(shown["trials"])) == ("tiny", 64, 5)
    assert {"number", "state", "r", "alpha", "learning_rate", "seed", "value", "reason"} <= shown["trials"][0].keys()
    assert [rank["r"] for rank in shown["ranks"]] == [1, 64]
    for rank in shown["ranks"]:
        assert rank["values"] == [trial["value"] for trial in shown["trials"] if trial["r"] == rank["r"]]
        assert rank["n"] == len(rank["values"])
        assert rank["mean"] == pytest.approx(sum(rank["values"]) / rank["n"])
    assert 0.1 < shown["baseline"] < 0.5


def test_the_report_is_one_file_that_needs_no_network(ran):
    folder, _ = ran
    done = sweep("report", "tiny", cwd=folder)
    assert done.returncode == 0
    page = (folder / "report.html").read_text()
    own = page.replace(page[page.index("<script>") : page.index("</script>")], "")
    assert not re.findall(r"(?:src|href)=[\"']?https?://", own)
    for name in ("by-rank", "by-learning-rate", "by-alpha", "curves-by-step"):
        assert f'id="{name}"' in own


def test_a_finished_study_is_not_run_again(ran):
    folder, _ = ran
    again = sweep(
        "run", "tiny", "--trials", 5, *SMALL, "--set", "space.r=[1,64]", "--set", "search.points_per_rank=2", cwd=folder
    )
    assert again.returncode == 0
    assert "5 done" in again.stdout
    assert states(folder) == ["COMPLETE"] * 5


def test_a_changed_study_stops_with_exit_3_and_says_what_changed(ran):
    folder, _ = ran
    done = sweep("run", "tiny", *SMALL, "--set", "learner.beta=0.1", cwd=folder)
    assert done.returncode == 3
    assert "learner.beta: 0.0 -> 0.1" in done.stderr
    assert "space.r: [1, 64] -> [1, 4, 16, 64]" in done.stderr
    assert "Traceback" not in done.stderr


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


CRASHING = """
import ctypes

def crashes(completions, **columns):
    ctypes.string_at(0)
"""


def test_a_crash_in_a_loaded_worker_names_its_last_frame(tmp_path):
    (tmp_path / "mine.py").write_text(CRASHING)
    done = sweep("run", "tiny", *SMALL, "--set", "task.reward=['mine:crashes']", cwd=tmp_path)
    assert done.returncode == 5
    assert "killed by SIGSEGV" in done.stderr
    assert "calling the reward crashes" in done.stderr
    assert "ctypes/__init__.py:" in done.stderr or "__init__.py:" in done.stderr


HANGING = """
import time

def hangs(completions, **columns):
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass
"""


def test_a_reward_that_hangs_and_swallows_everything_is_ended_and_named(tmp_path):
    (tmp_path / "mine.py").write_text(HANGING)
    done = sweep(
        "run", "tiny", *SMALL, "--set", "task.reward=['mine:hangs']", "--set", "task.reward_timeout_s=1", cwd=tmp_path
    )
    assert done.returncode == 5
    assert "reward hangs took longer than reward_timeout_s=1 and could not be interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    assert states(tmp_path).count("RUNNING") == 0


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


def test_a_model_that_cannot_be_loaded_ends_in_one_line(tmp_path):
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "config.json").write_text('{"model_type": "strange"}')
    done = sweep("run", "tiny", *SMALL, "--set", f"model.name={tmp_path}/strange", cwd=tmp_path)
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    assert "the worker could not start: Unsloth could not load" in done.stderr
    assert states(tmp_path).count("RUNNING") == 0


def test_the_transformers_engine_and_plain_peft_run_the_same_study(tmp_path):
    done = sweep(
        "run", "tiny", "--trials", 3, *SMALL, "--set", "model.engine=transformers", "--set", "model.policy=peft",
        "--set", "budget.steps=2", "--set", "learner.pack_size=2", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    facts = load(tmp_path).user_attrs["facts"]
    assert (facts["engine"], facts["policy"]) == ("transformers", "peft")
    assert states(tmp_path) == ["COMPLETE"] * 3


def test_the_packed_learner_runs_the_same_study_several_trials_at_once(tmp_path):
    done = sweep(
        "run", "tiny", "--trials", 5, *SMALL, "--set", "learner.name=packed", "--set", "learner.pack_size=3",
        "--set", "space.r=[1,64]", "--set", "search.points_per_rank=2", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    study = load(tmp_path)
    assert states(tmp_path) == ["COMPLETE"] * 5
    assert study.user_attrs["facts"]["learner"] == "packed"
    assert len({trial.user_attrs["worker"] for trial in study.trials}) == 1
    for trial in study.trials:
        assert sorted(trial.intermediate_values) == [1, 2, 3, 4, 5, 6]
        log = tmp_path / "rank-sweep.logs" / "tiny" / f"trial-{trial.number:04d}.log"
        assert "step 6/6: reward" in log.read_text()
    first, *_, last = sorted(study.trials, key=lambda trial: trial.datetime_start)[:3]
    assert last.datetime_start < first.datetime_complete
