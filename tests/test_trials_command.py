"""`sweep trials`, `sweep log`, `sweep verdict`, and what the command as a whole says of itself."""

import csv
import io
import json

import optuna
import pytest

import sweep as face
from sweep.answer.spending import spending
from sweep.cli.app import COMMANDS
from sweep.search.schedule import ask
from sweep.storage import attributes
from sweep.study.reading import load_study
from tests.support.command import Running, sweep
from tests.test_plots import STORED, stored_study


@pytest.fixture
def study(tmp_path):
    return stored_study(tmp_path)


def test_every_trial_is_a_row_that_fits_and_says_why_it_ended(study, tmp_path):
    done = sweep("trials", "tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "3", "4"]
    assert rows[1].split()[1:8] == ["complete", "1", "32", "0.002", "1", "0.500", "+0.250"]
    assert rows[4].split()[1] == "collapsed"
    assert "collapsed at step 6 <script>" in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        (["--r", "1"], [0, 1]),
        (["--r", "1", "--r", "16"], [0, 1, 2, 3, 4]),
        (["--state", "collapsed"], [4]),
        (["--state", "fail"], []),
        (["--phase", "search", "--r", "16"], [2, 3, 4]),
        (["--phase", "confirm"], []),
    ],
)
def test_filters_say_which_are_listed(study, tmp_path, filters, numbers):
    done = sweep("trials", "tiny", *filters, "--json", cwd=tmp_path)
    assert [trial["trial"] for trial in json.loads(done.stdout)] == numbers


def test_programs_get_every_column(study, tmp_path):
    listed = sweep("trials", "tiny", "--csv", cwd=tmp_path).stdout
    rows = list(csv.DictReader(io.StringIO(listed)))
    assert [row["held_out"] for row in rows] == ["0.4", "0.5", "0.6", "0.7", "0.01"]
    assert {"phase", "alpha", "gain", "seconds_train", "reason"} <= rows[0].keys()
    told = json.loads(sweep("trials", "tiny", "--json", cwd=tmp_path).stdout)
    assert told[0].keys() == rows[0].keys()


def test_the_time_is_the_trials_share_of_the_devices_as_in_the_report(study, tmp_path):
    # Each was told at once, and recorded one second of training: its share, however long it was there.
    done = sweep("trials", "tiny", "--r", 1, cwd=tmp_path)
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert [row[8:10] for row in rows] == [["1", "s"], ["1", "s"]]
    assert "time: the trial's share of the device's, as in the report" in " ".join(done.stdout.split())
    listed = json.loads(sweep("trials", "tiny", "--r", 1, "--json", cwd=tmp_path).stdout)
    assert all(trial["seconds"] < 1 for trial in listed)
    [rank, *_] = spending(study.get_trials()).ranks
    assert sum(trial["device_seconds"] for trial in listed) == rank.seconds == 2


def test_a_price_that_is_no_amount_is_refused_before_any_trial_runs(tmp_path):
    done = sweep("verdict", "tiny", "--price", "0", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2, "sweep: --price 0: must be money per device hour, above 0, for example 2.5\n"
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_whatever_a_failed_reward_said_is_listed(tmp_path):
    study = stored_study(tmp_path)
    trial = ask(study, load_study("tiny", STORED))
    trial.set_user_attr(attributes.REASON, '=1 "q",\r\n [/] \ud83d \x1b[2J')
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    for form in ("--csv", "--json"):
        assert "\\ud83d" in sweep("trials", "tiny", form, cwd=tmp_path).stdout
    assert sweep("report", "tiny", cwd=tmp_path).returncode == 0
    assert "\x1b" not in sweep("trials", "tiny", cwd=tmp_path).stdout


def test_a_mistake_names_what_there_is(study, tmp_path):
    for arguments, message in [
        (("trials", "tiny", "--state", "done"), "'complete', 'pruned', 'fail', 'running', 'collapsed'"),
        (("trials", "tiny", "--json", "--csv"), "--json and --csv are two ways to print; give one"),
        (("log", "tiny", "9"), "no trial 9; study 'tiny' has 5"),
        (("log", "tiny", "0"), "trial 0 has no log"),
        (("log", "tiny", "0", "--confirm"), "study 'tiny' has no confirmation yet"),
    ]:
        done = sweep(*arguments, cwd=tmp_path)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert message in " ".join(done.stderr.split())


def test_a_running_trials_log_is_followed_until_it_ends(study, tmp_path):
    trial = ask(study, load_study("tiny", STORED))
    log = tmp_path / "rank-sweep.logs" / "tiny" / "trial-0005.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("step 1\n")
    trial.set_user_attr(attributes.LOG, f"/before/it/was/moved/{log.name}")
    command = Running("log", "tiny", 5, cwd=tmp_path)
    command.wait_for("step 1")
    with log.open("a") as more:
        more.write("step 2 \x1b[2J\n")
    command.wait_for("step 2")
    assert command.process.poll() is None
    with log.open("a") as more:
        more.write("step 3\n")
    study.tell(trial, 0.5)
    assert command.process.wait(60) == 0
    assert command.output.read_text() == "step 1\nstep 2 \\x1b[2J\nstep 3\n"


def test_the_whole_command_says_its_version_and_groups_its_help(tmp_path):
    assert sweep("--version", cwd=tmp_path).stdout == f"rank-sweep {face.__version__}\n"
    told = sweep("--help", cwd=tmp_path).stdout
    for panel, commands in COMMANDS.items():
        assert f" {panel} " in told
        for command in commands:
            assert f" {command.__name__.replace('_', '-')} " in told
    assert "--install-completion" in told


@pytest.mark.parametrize("command", [command for commands in COMMANDS.values() for command in commands])
def test_every_help_has_an_example(command):
    assert "Example" in command.__doc__, command.__name__


@pytest.mark.long
def test_one_command_goes_to_the_verdict_and_runs_nothing_twice(tmp_path):
    small = ["--set", "budget.steps=6", "--set", "task.held_out_prompts=64", "--set", "space.r=[1, 64]"]
    small += ["--set", "search.points_per_rank=2", "--set", "search.trials=4", "--set", "verdict.seeds=2"]
    first = sweep("verdict", "tiny", *small, "--price", "2.5", cwd=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout.splitlines()[-1] == "wrote report.html"
    assert "95% interval" in first.stdout
    assert "no verdict yet" not in (tmp_path / "report.html").read_text().lower()
    assert "Prices are at 2.5 per device hour." in (tmp_path / "report.html").read_text()
    again = sweep("verdict", "tiny", *small, cwd=tmp_path)
    assert "4 trials of 6 steps, 4 done" in again.stdout
    assert "importing Unsloth" not in again.stdout
    assert len(json.loads(sweep("trials", "tiny", "--json", cwd=tmp_path).stdout)) == 8
