"""Commands that are printed paste into a shell and work there."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.cli.pasted import confirm_command, sweep_command
from sweep.study.reading import load_study
from tests.support.command import SMALL, Running, sweep
from tests.support.gate import until

PRINTED = re.compile(r"`(sweep [^`]+)`")


def stored(overrides=()):
    return load_study("tiny", list(overrides)).model_dump(mode="json")


@pytest.mark.parametrize(
    ("overrides", "storage"),
    [
        ([], "sqlite:///rank-sweep.db"),
        (["space.r=[1, 64]", "study.description='a $HOME `b` \"c\"'"], "sqlite:////tmp/a folder/it's.db"),
        (["task.reward=['mine:right']", "learner.beta=0.1"], "sqlite:///other.db?x=1&y=2"),
    ],
)
def test_a_shell_reads_a_printed_command_as_it_was_meant(overrides, storage):
    command = sweep_command("confirm", "my study.toml", storage=storage, overrides=overrides)
    echoed = subprocess.run(
        [
            "bash",
            "-c",
            command.replace("sweep", f"{shlex.quote(sys.executable)} -c 'import sys; print(sys.argv[1:])'", 1),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    words = ["confirm", "my study.toml", *(word for each in overrides for word in ("--set", each))]
    assert echoed.strip() == repr(words + ([] if storage == "sqlite:///rank-sweep.db" else ["--storage", storage]))


def test_a_password_is_never_printed(monkeypatch):
    url = "postgresql://someone:secret@host/db"
    assert "secret" not in sweep_command("run", "tiny", storage=url)
    assert '--storage "$SWEEP_STORAGE"' in sweep_command("run", "tiny", storage=url)
    monkeypatch.setenv("SWEEP_STORAGE", url)
    assert sweep_command("run", "tiny", storage=url) == "sweep run tiny"


def test_a_study_that_was_run_with_overrides_is_confirmed_with_them():
    overrides = ["space.r=[1, 64]", "budget.steps=6", "learner.scale_rewards='batch'"]
    command = confirm_command("tiny", load_study("tiny", overrides), storage="sqlite:///rank-sweep.db")
    words = shlex.split(command)
    assert words[:3] == ["sweep", "confirm", "tiny"]
    again = load_study("tiny", [word for word in words if "=" in word])
    assert again.model_dump(mode="json") == stored(overrides)
    assert confirm_command("no-such-study", load_study("tiny"), storage="sqlite:///rank-sweep.db") is None


@pytest.mark.long
def test_what_commands_print_to_be_run_next_runs(tmp_path):
    storage = f"sqlite:///{tmp_path}/a folder/it's.db"
    (tmp_path / "a folder").mkdir()
    study = tmp_path / "my study.toml"
    study.write_text(Path(str(load_study("tiny")._folder / "tiny.toml")).read_text().replace('"tiny"', '"mine"', 1))
    sets = [
        *SMALL, "--set", "space.r=[1, 16]", "--set", "space.alpha=[32]", "--set", "space.learning_rate=[1e-3, 2e-3]",
        "--set", "search.points_per_rank=1", "--set", "study.description='it is $mine'", "--set", "verdict.seeds=3",
    ]  # fmt: skip
    command = ["run", str(study), "--storage", storage, "--trials", "4", *sets]
    pasted, waiting = (
        [],
        [shlex.join(["sweep", *command]), shlex.join(["sweep", "show", str(study), "--storage", storage])],
    )
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    while waiting:
        pasted.append(waiting.pop(0))
        done = subprocess.run(
            ["bash", "-c", pasted[-1]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{pasted[-1]}: {done.stdout}{done.stderr}"
        waiting += [new for new in PRINTED.findall(done.stdout) if "--storage" in new and new not in pasted + waiting]
    assert {shlex.split(command)[1] for command in pasted} == {"run", "show", "confirm"} | (
        {"report"} if any(" report " in command for command in pasted) else set()
    )


def test_a_failed_run_names_no_next_step(tmp_path):
    (tmp_path / "mine.py").write_text("def right(completions, **_):\n    raise ValueError('no')\n")
    done = sweep("run", "tiny", *SMALL, "--set", "task.reward=['mine:right']", cwd=tmp_path)
    assert done.returncode == 5
    assert "next:" not in done.stdout + done.stderr


def test_a_command_that_keeps_nothing_does_not_promise_to_go_on(tmp_path):
    command = Running("try-reward", "tiny", cwd=tmp_path)
    try:
        command.wait_for("loading")
        command.process.send_signal(signal.SIGTERM)
        until(lambda: command.process.poll() is not None)
        said = command.output.read_text()
        assert command.process.returncode == 130, said
        assert said.splitlines()[-1] == "sweep: Interrupted."
    finally:
        command.end()


@pytest.mark.parametrize("arguments", [["--png", "--notebook"], ["--notebook", "--png"], ["-o", "--png"]])
def test_an_option_is_not_taken_for_a_file(tmp_path, arguments):
    done = sweep("report", "tiny", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "looks like an option" in done.stderr
    assert list(tmp_path.iterdir()) == []
