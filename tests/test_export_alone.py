"""Exported training scripts of studies on the user's own rows and rewards: they run without this project."""

import ast
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from objectives.models.make_random import make_random_model
from sweep.export.alone import alone
from sweep.study.reading import load_study
from tests.support.command import sweep
from tests.test_free_text import STUDY
from tests.test_plots import stored_study

REWARDS = """
from own_parts import length


def short(completions, answer, **columns):
    return [-float(length(c)) for c in completions]


def rows(tokenizer):
    assert tokenizer.eos_token_id is not None
    return [{"q": f"What is {i}?", "answer": str(i)} for i in range(12)]
"""
PARTS = "def length(completion):\n    return len(completion[0]['content'])\n"
FROM_FILE = 'name = "dataset"\ndata = "rows.jsonl"\nchat = true\nprompt_column = "q"\nreward = ["own_rewards:short"]'
FROM_CODE = FROM_FILE.replace("rows.jsonl", "own_rewards:rows") + '\nsystem_prompt = "Be brief."'
TEMPLATE = "{% for message in messages %}{{ style }}: {{ message.content }}\n{% endfor %}Answer:"
OWN = '\nchat_template = "own.jinja"\nchat_template_kwargs = { style = "Asked" }'
SETTINGS = """
[learner]
top_p = 0.9
top_k = 50
min_p = 0.01
repetition_penalty = 1.1
stop = ["zz", "END"]
epsilon_high = 0.28
delta = 4.0
mask_truncated_completions = true
loss_type = "dr_grpo"
importance_sampling_level = "sequence"
entropy_coef = 0.01
lr_scheduler_type = "cosine_with_min_lr"
min_lr_rate = 0.1
warmup_ratio = 0.5
weight_decay = 0.01
adam_beta2 = 0.99
"""
WITHOUT = (
    "import runpy, sys\n"
    "sys.modules['objectives'] = sys.modules['sweep'] = None\n"
    "sys.argv = sys.argv[1:]\n"
    "runpy.run_path(sys.argv[0], run_name='__main__')\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which a study on rows from a file and one on rows from code have run."""
    folder = tmp_path_factory.mktemp("alone")
    make_random_model(folder / "model")
    (folder / "own_rewards.py").write_text(REWARDS)
    (folder / "own_parts.py").write_text(PARTS)
    rows = [{"q": f"What is {i}?", "answer": str(i)} for i in range(12)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "own.jinja").write_text(TEMPLATE)
    for name, task, more in (("file", FROM_FILE, ""), ("code", FROM_CODE, ""), ("settings", FROM_FILE + OWN, SETTINGS)):
        text = STUDY.format(name=name, task=task + "\nheld_out_share = 0.3") + more
        (folder / f"{name}.toml").write_text(text)
        done = sweep("run", f"{name}.toml", "--trials", 1, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", ["file", "code", "settings"])
def test_the_script_trains_with_unsloth_trl_and_the_users_files_alone(folder, name):
    done = sweep("export", name, "--trial", 0, "-o", f"{name}-out", cwd=folder)
    assert done.returncode == 0, done.stderr
    out = folder / f"{name}-out"
    script = (out / "train.py").read_text()
    assert "objectives" not in script
    assert {"own_rewards.py", "own_parts.py"} <= {path.name for path in out.iterdir()}
    assert (out / "train.jsonl").exists() == (name != "code")
    command = [sys.executable, "-c", WITHOUT, out / "train.py", "--steps", "2", "--output", out / "trained"]
    environment = {**os.environ, "PYTHONPATH": "", "UNSLOTH_COMPILE_LOCATION": str(out / "unsloth")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("'reward':") == 2
    assert json.loads((out / "trained" / "adapter_config.json").read_text())["peft_type"] == "LORA"


@pytest.mark.long
def test_rows_from_a_file_are_those_that_the_study_trained_on(folder):
    rows = [json.loads(line) for line in (folder / "file-out" / "train.jsonl").read_text().splitlines()]
    assert 0 < len(rows) < 12
    assert rows[0]["prompt"][0]["role"] == "user"


def config_of(tmp_path, monkeypatch, task):
    monkeypatch.chdir(tmp_path)
    text = STUDY.format(name="x", task=task).replace('name = "model"', f'name = "{tmp_path}/model"')
    (tmp_path / "x.toml").write_text(text)
    return load_study("x.toml")


def test_packages_aliases_and_strange_line_ends_survive(tmp_path, monkeypatch):
    make_random_model(tmp_path / "model")
    (tmp_path / "own_pkg").mkdir()
    (tmp_path / "own_pkg" / "__init__.py").write_text("from own_pkg.parts import right\n")
    (tmp_path / "own_pkg" / "parts.py").write_text("def right(completions, **_): return [0.0]\n")
    rows = [{"prompt": f"a\u2028b\x85c {i}"} for i in range(20)] + [{"prompt": "long " * 400}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = 'name = "dataset"\ndata = "rows.jsonl"\nreward = { rows = "own_pkg:right", class = "own_pkg.parts:right" }'
    made = alone(config_of(tmp_path, monkeypatch, task + "\nmax_prompt_tokens = 64\nheld_out_share = 0.2"), [tmp_path])
    assert {"own_pkg/__init__.py", "own_pkg/parts.py", "train.jsonl"} == set(made.files)
    assert [alias for alias, _, _ in made.rewards] == ["reward_rows", "reward_class"]
    kept = [json.loads(line) for line in made.files["train.jsonl"].decode().split("\n") if line]
    assert all(row["prompt"].startswith("a\u2028b\x85c") for row in kept)
    assert 0 < len(kept) <= 20


@pytest.mark.long
def test_the_script_trains_with_the_studys_settings(folder):
    tree = ast.parse((folder / "settings-out" / "train.py").read_text())
    [call] = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "GRPOConfig"]
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    said = {
        "top_p": 0.9, "top_k": 50, "min_p": 0.01, "repetition_penalty": 1.1, "epsilon": 0.2, "epsilon_high": 0.28,
        "delta": 4.0, "loss_type": "dr_grpo", "importance_sampling_level": "sequence",
        "entropy_coef": 0.01, "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1}, "warmup_steps": 0.5, "weight_decay": 0.01, "adam_beta1": 0.9,
        "adam_beta2": 0.99, "optim": "adamw_torch", "chat_template_kwargs": {"style": "Asked"},
        # TRL's own would mask what ends at a stop text, too.
        "mask_truncated_completions": False,
    }  # fmt: skip
    assert {name: ast.literal_eval(given[name]) for name in said} == said
    assert given["generation_kwargs"] == "{'stop' if with_vllm else 'stop_strings': ['zz', 'END']}"
    card = (folder / "settings-out" / "README.md").read_text()
    assert "cosine_with_min_lr down to 0.1 of it, warm-up over 0.5 of the steps" in card
    assert "T=1, top_p=0.9, top_k=50, min_p=0.01, repetition_penalty=1.1, stop=['zz', 'END']" in card
    assert "adamw_torch, betas 0.9 and 0.99, weight decay 0.01" in card
    assert "ratios within 0.8 to 1.28, delta 4, cut completions left out" in card


def test_a_storage_from_elsewhere_puts_no_code_of_its_own_into_the_script(tmp_path):
    stored_study(tmp_path)
    evil = 'x"""\nevil = 1\n#'
    with closing(sqlite3.connect(tmp_path / "rank-sweep.db")) as connection, connection:
        ((config,),) = connection.execute("SELECT value_json FROM study_user_attributes WHERE key = 'config'")
        config = json.loads(config)
        config["study"]["description"] = config["model"]["name"] = evil
        config["task"] = {
            "name": "dataset", "data": evil, "split": evil, "prompt_column": evil, "chat_template": evil,
            "system_prompt": evil, "chat": True, "reward": ["own_rewards:short"], "train_prompts": 64,
            "held_out_prompts": 8,
        }  # fmt: skip
        changed = json.dumps(config)
        connection.execute("UPDATE study_user_attributes SET value_json = ? WHERE key = 'config'", (changed,))
    done = sweep("export", "tiny", "--trial", 0, "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    script = (tmp_path / "out" / "train.py").read_text()
    assert "evil = 1" in script
    assert not [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Name) and node.id == "evil"]


def test_a_script_says_what_trl_does_not_have(tmp_path):
    stored_study(tmp_path)
    with closing(sqlite3.connect(tmp_path / "rank-sweep.db")) as connection, connection:
        ((config,),) = connection.execute("SELECT value_json FROM study_user_attributes WHERE key = 'config'")
        changed = json.dumps(json.loads(config) | {"learner": {"name": "packed", "algorithm": "rloo"}})
        connection.execute("UPDATE study_user_attributes SET value_json = ? WHERE key = 'config'", (changed,))
    done = sweep("export", "tiny", "--trial", 0, "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = ast.get_docstring(ast.parse((tmp_path / "out" / "train.py").read_text()))
    assert "The study trained by RLOO, which TRL's GRPOTrainer does not have: this script trains by GRPO." in said
    assert "| objective | RLOO, beta 0, ratios within 0.8 to 1.2 |" in (tmp_path / "out" / "README.md").read_text()
