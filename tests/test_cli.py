import json
import subprocess
import sys

import pytest

from tests.support.command import sweep

HEAVY = ("torch", "vllm", "unsloth", "trl", "optuna", "pandas", "plotly", "transformers", "peft", "numpy", "scipy")


def test_importing_the_command_line_loads_nothing_heavy():
    program = f"import sys, sweep.cli; print([m for m in {HEAVY!r} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_reading_a_study_loads_no_torch():
    program = (
        "import sys; from sweep.study.reading import load_study; load_study('tiny').search_space().design(3, seed=0);"
        "import sweep.running.supervisor, sweep.running.worker_process, sweep.storage.summary;"
        "print('torch' in sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"


def test_help_comes_at_once():
    """By what it loads, not by the clock: the whole of help is Typer's, and what these draw in."""
    command = [sys.executable, "-X", "importtime", "-m", "sweep", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "sweep.cli.app" in loaded
    assert not {module.split(".")[0] for module in loaded} & {*HEAVY, "jinja2", "pydantic", "datasets"}


@pytest.mark.parametrize("command", ["run", "show", "report", "studies"])
def test_every_subcommand_teaches(command, tmp_path):
    done = sweep(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "--storage" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "nosuch"], 2, "no study 'nosuch'; allowed: a path to a .toml file, or one of"),
        (["run", "tiny", "--set", "space.r=[96]"], 2, "r=96 exceeds max_lora_rank=64; allowed: 1 to 64"),
        (["run", "tiny", "--set", "steps"], 2, "allowed: section.key=value"),
        (["run", "tiny", "--trials", "0"], 2, "Invalid value for '--trials'"),
        (["run", "tiny", "--storage", "nonsense"], 4, "cannot open 'nonsense'"),
        (["show", "tiny"], 4, "no storage at rank-sweep.db"),
        (["report", "tiny", "--storage", "sqlite:///none.db"], 4, "no storage at none.db"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_a_mistake_ends_in_its_exit_code_with_no_traceback_and_leaves_nothing(arguments, code, message, tmp_path):
    done = sweep(*arguments, cwd=tmp_path, env={"COLUMNS": "200"})
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_studies_lists_what_is_shipped_and_leaves_no_storage_behind(tmp_path):
    done = sweep("studies", "--json", cwd=tmp_path)
    rows = {row["study"]: row for row in json.loads(done.stdout)}
    assert {"tiny", "tiny_1_symbol", "tiny_4_symbols"} <= rows.keys()
    assert rows["tiny"]["ended"] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_plain_optuna_made_is_answered_in_one_line(tmp_path):
    import optuna

    optuna.create_study(study_name="[/theirs]", storage=f"sqlite:///{tmp_path}/rank-sweep.db")
    done = sweep("show", "[/theirs]", cwd=tmp_path)
    assert (done.returncode, "was not made by `sweep run`" in done.stderr) == (4, True)
    listed = sweep("studies", cwd=tmp_path)
    assert (listed.returncode, "[/theirs]" in listed.stdout) == (0, True)


def test_a_study_that_is_named_to_command_a_terminal_is_listed_letter_by_letter(tmp_path):
    import optuna

    optuna.create_study(study_name="a\x1b]0;owned\x07\x1b[31m", storage=f"sqlite:///{tmp_path}/rank-sweep.db")
    listed = sweep("studies", cwd=tmp_path)
    assert (listed.returncode, "\x1b" in listed.stdout, "\x07" in listed.stdout) == (0, False, False)
    assert r"a\x1b]0;owned" in listed.stdout


def test_a_log_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "rank-sweep.logs").write_text("")
    done = sweep("run", "tiny", cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (4, False)
    assert "cannot write logs to" in done.stderr


def test_a_report_that_cannot_be_written_is_one_line(tmp_path):
    from tests.test_plots import stored_study

    stored_study(tmp_path)
    done = sweep("report", "tiny", "-o", "no/such/folder/report.html", cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "--output no/such/folder/report.html: cannot be written" in done.stderr


def test_the_storage_may_be_named_in_the_environment(tmp_path):
    done = sweep("show", "tiny", cwd=tmp_path, env={"SWEEP_STORAGE": "sqlite:///elsewhere.db"})
    assert "no storage at elsewhere.db" in done.stderr
