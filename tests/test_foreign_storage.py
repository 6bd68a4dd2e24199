"""A storage that came from elsewhere: read, shown letter by letter, and none of the code that it names is run."""

import json
import sqlite3
from contextlib import closing

import pytest

from sweep.storage import attributes
from tests.support.command import sweep
from tests.test_confirm import POINTS
from tests.test_plots import stored_study

EVIL = "\x1b]0;owned\x07\x1b[31m</script><script>alert(1)</script>[bold]x[/bold]"
CODE = "open('ran', 'w')\ndef reward(completions, **_): return [0.0]\ndef rows(): return []\nclass Task: ...\n"
DATASET = {
    "name": "dataset", "data": "rows.jsonl", "prompt_column": "q", "chat": True, "train_prompts": 64,
    "held_out_prompts": 8, "reward": ["planted:reward"],
}  # fmt: skip
TASKS = {
    "rewards": DATASET,
    "rows": DATASET | {"data": "planted:rows"},
    "a task": {"name": "planted:Task", "train_prompts": 64, "held_out_prompts": 8, "max_completion_tokens": 8},
}


@pytest.fixture(scope="module", params=TASKS)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    stored_study(folder, points=POINTS)
    (folder / "planted.py").write_text(CODE)
    (folder / "rows.jsonl").write_text("".join(json.dumps({"q": f"{i}?"}) + "\n" for i in range(99)))
    log = folder / "rank-sweep.logs" / "tiny" / "trial-0000.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"says {EVIL}\n")
    with closing(sqlite3.connect(folder / "rank-sweep.db")) as connection, connection:
        ((config,),) = connection.execute("SELECT value_json FROM study_user_attributes WHERE key = 'config'")
        config = json.loads(config) | {"task": TASKS[request.param]}
        config["model"]["name"] = f"some/{EVIL}"
        config["study"]["description"] = EVIL
        changed = json.dumps(config)
        connection.execute("UPDATE study_user_attributes SET value_json = ? WHERE key = 'config'", (changed,))
        trials = connection.execute("SELECT trial_id FROM trials ORDER BY number").fetchall()
        for (trial,), key, text in ((trials[0], attributes.LOG, str(log)), (trials[-1], attributes.REASON, EVIL)):
            connection.execute(
                "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)",
                (trial, key, json.dumps(text)),
            )
        connection.execute("UPDATE trials SET state = 'FAIL' WHERE trial_id = ?", trials[-1])
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["show", "tiny"], ["show", "tiny", "--json"], ["trials", "tiny"], ["log", "tiny", "0"],
        ["report", "tiny", "-o", "report.html"], ["export", "tiny", "--trial", "0", "-o", "out"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_reading_it_commands_no_terminal_no_browser_and_runs_no_code(folder, command):
    done = sweep(*command, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert not {"\x1b", "\x07"} & set(done.stdout + done.stderr)
    assert not (folder / "ran").exists()
    if command[0] == "report":
        assert "<script>alert(1)" not in (folder / "report.html").read_text()
    if command[:2] in (["trials", "tiny"], ["log", "tiny"]):
        assert r"\x1b" in done.stdout
