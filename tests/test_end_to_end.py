"""The main job through the installed command: real policy, engine, trainer and storage."""

import json
import re

import optuna
import pytest

from tests.support.command import SMALL, sweep


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder in which a small study has been run to its end."""
    folder = tmp_path_factory.mktemp("ran")
    done = sweep(
        "run", "tiny", "--trials", 5, *SMALL, "--set", "space.r=[1,64]", "--set", "search.points_per_rank=2", cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done


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


CRASHING = """
import ctypes

def crashes(completions, **columns):
    ctypes.string_at(0)
"""


@pytest.mark.long
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


@pytest.mark.long
def test_a_reward_that_hangs_and_swallows_everything_is_ended_and_named(tmp_path):
    (tmp_path / "mine.py").write_text(HANGING)
    done = sweep(
        "run", "tiny", *SMALL, "--set", "task.reward=['mine:hangs']", "--set", "task.reward_timeout_s=1", cwd=tmp_path
    )
    assert done.returncode == 5
    assert "reward hangs took longer than reward_timeout_s=1 and could not be interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    assert states(tmp_path).count("RUNNING") == 0


def test_a_model_that_cannot_be_loaded_ends_in_one_line(tmp_path):
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "config.json").write_text('{"model_type": "strange"}')
    (tmp_path / "strange" / "model.safetensors").touch()
    done = sweep("run", "tiny", *SMALL, "--set", f"model.name={tmp_path}/strange", cwd=tmp_path)
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    assert "the worker could not start: Unsloth could not load" in done.stderr
    assert states(tmp_path).count("RUNNING") == 0


@pytest.mark.long
def test_the_transformers_engine_and_plain_peft_run_the_same_study(tmp_path):
    done = sweep(
        "run", "tiny", "--trials", 3, *SMALL, "--set", "model.engine=transformers", "--set", "model.policy=peft",
        "--set", "budget.steps=2", "--set", "learner.pack_size=2", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    facts = load(tmp_path).user_attrs["facts"]
    assert (facts["engine"], facts["policy"]) == ("transformers", "peft")
    assert states(tmp_path) == ["COMPLETE"] * 3


@pytest.mark.long
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
