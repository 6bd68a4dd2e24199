"""GSM8K from a file and a reasoning-gym task, end to end on a tiny random model with a real chat template."""

import json

import optuna
import pytest

from objectives.models.make_random import make_random_model
from objectives.rewards.calling import make_rewards
from objectives.settings.tasks import Gsm8kSettings, ReasoningGymSettings
from objectives.tasks.build import build_task
from tests.support.command import sweep
from tests.test_gsm8k import QUESTIONS
from tests.test_rewards import totals

STUDY = """
[study]
name = "{name}"
[model]
name = "model"
max_lora_rank = 8
dtype = "float32"
max_seq_length = 1024
gpu_memory_utilization = 0.1
[space]
r = [1, 8]
alpha = [8]
learning_rate = [1e-3]
[task]
{task}
train_prompts = 64
held_out_prompts = 8
max_completion_tokens = 16
[budget]
steps = 2
prompts_per_step = 2
group_size = 4
[search]
trials = 2
points_per_rank = 1
"""
GSM8K = 'name = "gsm8k"\ndata = "gsm.jsonl"'
GYM = 'name = "reasoning_gym"\ndataset = "chain_sum"\noptions = { max_terms = 2, max_digits = 1 }'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("free-text")
    make_random_model(folder / "model")
    (folder / "gsm.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    for name, task in (("gsm8k", GSM8K), ("gym", GYM)):
        (folder / f"{name}.toml").write_text(STUDY.format(name=name, task=task))
    return folder


@pytest.mark.long
@pytest.mark.parametrize(("name", "functions"), [("gsm8k", {"correct", "well_formed"}), ("gym", {"chain_sum_score"})])
def test_a_study_on_free_text_runs_to_its_end(folder, name, functions):
    done = sweep("run", f"{name}.toml", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/rank-sweep.db").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    curve = trials[0].user_attrs["curve"]
    assert {key.removeprefix("reward:") for key in curve if key.startswith("reward:")} == functions
    assert {key.removeprefix("reward_std:") for key in curve if key.startswith("reward_std:")} == functions
    assert 1 < curve["completion_length"][0] <= 16


@pytest.mark.long
def test_trying_a_reward_shows_prompts_completions_and_that_a_random_model_has_no_signal(folder):
    done = sweep("try-reward", "gsm8k.toml", "--prompts", 4, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    tried = json.loads(done.stdout)
    assert tried["can_learn"] == "no"
    assert "GRPO cannot learn from this: 0 of 4 groups have signal" in tried["reason"]
    assert tried["rewards"].keys() == {"correct", "well_formed"}
    assert [len(group["completions"]) for group in tried["groups"]] == [4] * 4
    assert [message["role"] for message in tried["groups"][0]["prompt"]] == ["system", "user"]
    shown = sweep("try-reward", "gym.toml", "--prompts", 2, "--show", 1, cwd=folder, env={"COLUMNS": "200"})
    assert "[user] State the final answer" in shown.stdout
    assert "chain_sum_score" in shown.stdout
    assert "no signal: all rewards are equal" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_a_scripted_right_answer_gets_its_reward(folder):
    settings = Gsm8kSettings(name="gsm8k", data="gsm.jsonl")
    task = build_task(settings, seed=0, folders=[folder], chat=True)
    rows = task.train_rows(2)
    right = [[{"role": "assistant", "content": f"Sure.\n#### {int(row['answer']):,}"}] for row in rows]
    assert totals(make_rewards(task, settings, []), rows, right, [[1], [1]]) == [1.2, 1.2]

    gym = ReasoningGymSettings(name="reasoning_gym", dataset="chain_sum", options={"max_terms": 2, "max_digits": 1})
    task = build_task(gym, seed=0, folders=[], chat=True)
    rows = task.train_rows(2)
    sums = [eval(row["prompt"][-1]["content"].split(":")[1].strip(" =")) for row in rows]
    right = [[{"role": "assistant", "content": f"<answer>{total}</answer>"}] for total in sums]
    assert totals(make_rewards(task, gym, []), rows, right, [[1], [1]]) == [1.0, 1.0]


@pytest.mark.long
def test_a_broken_reward_stops_the_study_with_one_line_and_its_traceback_in_the_log(folder):
    (folder / "broken.py").write_text("def broken(completions, **columns):\n    return [1 / 0 for _ in completions]\n")
    study = STUDY.format(name="broken", task=GSM8K + '\nreward = ["broken:broken"]')
    (folder / "broken.toml").write_text(study)
    done = sweep("run", "broken.toml", cwd=folder)
    assert done.returncode == 5
    [line] = [line for line in done.stderr.splitlines() if line.startswith("sweep:")]
    assert "reward broken raised ZeroDivisionError: division by zero" in line
    log = next((folder / "rank-sweep.logs" / "broken").glob("worker-*.log")).read_text()
    assert 'broken.py", line 2, in broken' in log


TRL_SCRIPT = """
import re
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

def format_reward(completions, **kwargs):
    return [0.5 if re.search(r"<answer>", c[0]["content"]) else 0.0 for c in completions]

async def length_reward(prompts, completions, completion_ids, target, trainer_state=None, **kwargs):
    assert len(prompts) == len(completions) == len(completion_ids) == len(target)
    return [-abs(len(ids) - t) / 16 for ids, t in zip(completion_ids, target)]

if __name__ == "__main__":
    trainer = GRPOTrainer(model="model", reward_funcs=[format_reward, length_reward],
                          train_dataset=Dataset.from_json("chat.jsonl"), args=GRPOConfig())
    trainer.train()
"""


@pytest.mark.long
def test_a_trl_script_is_named_as_it_is_and_its_rewards_run_unchanged(folder):
    (folder / "train_grpo.py").write_text(TRL_SCRIPT)
    rows = [{"prompt": [{"role": "user", "content": f"Say {n}"}], "target": n % 16} for n in range(64)]
    (folder / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = 'name = "dataset"\ndata = "chat.jsonl"\nreward = ["train_grpo:format_reward", "train_grpo:length_reward"]'
    (folder / "theirs.toml").write_text(STUDY.format(name="theirs", task=task))
    done = sweep("run", "theirs.toml", "--trials", 1, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    [trial] = optuna.load_study(study_name="theirs", storage=f"sqlite:///{folder}/rank-sweep.db").get_trials(
        states=[optuna.trial.TrialState.COMPLETE]
    )
    assert min(trial.user_attrs["curve"]["reward:length_reward"]) < 0
    assert set(trial.user_attrs["curve"]["reward:format_reward"]) == {0.0}
    tried = json.loads(sweep("try-reward", "theirs.toml", "--prompts", 8, "--json", cwd=folder).stdout)
    assert tried["can_learn"] in ("yes", "slowly")
