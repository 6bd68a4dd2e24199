"""Rewards and data as people have them, through the installed command, with vLLM and with both learners."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import optuna
import pytest
from transformers import GenerationConfig

from objectives.models.make_random import make_random_model
from tests.support.command import is_alive, sweep

pytestmark = pytest.mark.slow

ENDS = [4, 70, 90, 120, 150]
REWARDS = """
import itertools, os, time

ENDS = {4, 70, 90, 120, 150, 1}
calls = itertools.count()

def make(weight):
    def inner(completions, **columns):
        return [weight * len(c[0]["content"]) for c in completions]
    return inner

short, long = make(0.01), make(0.02)
first = lambda completions, **columns: [1.0] * len(completions)
second = lambda completions, **columns: [2.0] * len(completions)

def pooled(completions, **columns):
    global pool
    if "pool" not in globals():
        import multiprocessing, concurrent.futures
        pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with open("pool.txt", "w") as file:
        file.write(str(pool.submit(os.getpid).result()))
    return [1.0] * len(completions)

def ended(completion_ids, **columns):
    return [float(ids[-1] in ENDS) for ids in completion_ids]

def some(prompts, completions, completion_ids, facts, trainer_state, **columns):
    import datasets, huggingface_hub
    assert not huggingface_hub.constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE
    assert all(len(prompt) == 1 and set(fact) == {"a", "b"} for prompt, fact in zip(prompts, facts))
    assert 0 <= trainer_state.global_step < trainer_state.max_steps
    for prompt in prompts:
        prompt.append({"role": "assistant", "content": "meddled with"})
    return [None if fact["a"] % 3 == 0 else float(sum(ids) % 5) for ids, fact in zip(completion_ids, facts)]

def counts(completions, **columns):
    return [float(next(calls)) for _ in completions]

def neighbours(completions, **columns):
    return [float(c == completions[i - 1]) + i for i, c in enumerate(completions)]

def best_of_group(prompts, completions, **columns):
    lengths = [(str(p), len(c[0]["content"])) for p, c in zip(prompts, completions)]
    return [float(own == max(other for other in lengths if other[0] == own[0])) for own in lengths]

def slow(completions, **columns):
    time.sleep(0.01 * len(completions))
    return [0.0] * len(completions)
"""
STUDY = """
[study]
name = "{name}"
[model]
name = "model"
max_lora_rank = 8
dtype = "float32"
max_seq_length = 128
gpu_memory_utilization = 0.1
[space]
r = [1]
alpha = [8]
learning_rate = [1e-3]
[task]
name = "dataset"
data = "rows.jsonl"
held_out_prompts = 200
held_out_share = 0.5
max_completion_tokens = 16
{task}
[learner]
name = "{learner}"
[budget]
steps = 2
prompts_per_step = 4
group_size = 4
[search]
trials = 1
points_per_rank = 1
"""


ASKED = []


class Hub(BaseHTTPRequestHandler):
    """Notes every request that a hub would get."""

    def do_GET(self):
        ASKED.append(self.path)
        self.send_error(404)

    do_HEAD = do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hub():
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    online = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "0")
    yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", **online}
    server.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rewards")
    make_random_model(folder / "model")
    config = GenerationConfig.from_pretrained(folder / "model")
    config.eos_token_id = ENDS
    config.save_pretrained(folder / "model")
    (folder / "my_rewards.py").write_text(REWARDS)
    rows = [
        {"prompt": [{"role": "user", "content": f"say {n}"}], "facts": {"a": n} if n % 2 else {"a": n, "b": "x"}}
        for n in range(600)
    ]
    rows[7]["prompt"][0]["content"] = "on and on " * 40
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def write(folder, name, task, learner="trl"):
    (folder / f"{name}.toml").write_text(STUDY.format(name=name, task=task, learner=learner))
    return f"{name}.toml"


def test_a_first_try_names_what_a_study_would_trip_over(folder, hub):
    names = ("short", "long", "first", "second", "ended", "some", "counts", "neighbours", "best_of_group", "slow")
    listed = ", ".join(f'"my_rewards:{name}"' for name in names)
    study = write(folder, "tried", f"reward = [{listed}]\nreward_timeout_s = 1.5")
    done = sweep("try-reward", study, "--prompts", 24, "--json", cwd=folder, env=hub)
    assert done.returncode == 0, done.stderr
    tried = json.loads(done.stdout)
    assert tuple(tried["rewards"]) == names
    mean = {name: reward["mean"] for name, reward in tried["rewards"].items()}
    assert (mean["first"], mean["second"]) == (1.0, 2.0)
    assert mean["long"] == pytest.approx(2 * mean["short"])
    # Every token that the model's config says ends a completion does, and is known to.
    assert tried["share_truncated"] == pytest.approx(1 - mean["ended"])
    assert 0.05 < tried["share_truncated"] < 0.95
    warned = {name: [w for w in tried["warnings"] if f"reward {name} " in w] for name in names}
    assert {name for name, found in warned.items() if found} == {"counts", "neighbours", "best_of_group", "slow"}
    assert "keeps something between calls, or draws at random" in warned["counts"][0]
    assert "in another order" in warned["neighbours"][0]
    assert "one completion per prompt, as scoring does" in warned["best_of_group"][0]
    assert "takes 0.01 s per completion: the study's largest call, of" in warned["slow"][0]
    assert any(w.startswith("1 of ") and "longer than 112 tokens" in w for w in tried["warnings"])


@pytest.mark.long
@pytest.mark.parametrize("learner", ["trl", "packed"])
def test_a_study_runs_on_what_trl_allows(folder, hub, learner):
    task = 'reward = { main = "my_rewards:some", accuracy = "my_rewards:pooled" }\nreward_weights = [1.0, 0.0]'
    study = write(folder, f"allowed_{learner}", task, learner)
    ASKED.clear()
    done = sweep("run", study, cwd=folder, env=hub)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of " in done.stdout and "left out: longer than 112 tokens; the longest has 4" in done.stdout
    assert ASKED == []
    assert not is_alive(int((folder / "pool.txt").read_text()))
    [trial] = optuna.load_study(study_name=f"allowed_{learner}", storage=f"sqlite:///{folder}/rank-sweep.db").trials
    assert {"reward:main", "reward:accuracy"} <= trial.user_attrs["curve"].keys()


@pytest.mark.long
def test_both_learners_see_and_count_completions_without_a_reward(folder, hub):
    for learner in ("trl", "packed"):
        study = write(folder, f"without_{learner}", 'reward = "my_rewards:some"', learner)
        done = sweep("run", study, cwd=folder, env=hub)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "held-out completions have no reward (every function returned None), one to 'say " in done.stdout
        log = (folder / "rank-sweep.logs" / f"without_{learner}" / "trial-0000.log").read_text()
        assert "of 16 completions have no reward (every function returned None), one to 'say " in log
    stored = [
        optuna.load_study(study_name=f"without_{learner}", storage=f"sqlite:///{folder}/rank-sweep.db")
        for learner in ("trl", "packed")
    ]
    trl, packed = (study.trials[0].user_attrs for study in stored)
    assert trl["curve"]["unscored"] == packed["curve"]["unscored"]
    assert trl["curve"]["reward"][0] == pytest.approx(packed["curve"]["reward"][0])
    assert stored[0].user_attrs["baseline"] == stored[1].user_attrs["baseline"]
    assert 20 < stored[0].user_attrs["baseline"]["unscored"] < 120


@pytest.mark.long
@pytest.mark.parametrize("command", ["run", "confirm"])
def test_a_changed_reward_or_changed_data_are_refused_as_a_changed_key_is(folder, command):
    """Of the study that the test before has stored."""
    study, rewards, rows = "without_trl.toml", folder / "my_rewards.py", folder / "rows.jsonl"
    for path, name in ((rewards, "my_rewards.py"), (rows, "rows.jsonl")):
        before = path.read_text()
        path.write_text("\n".join(before.splitlines()[:-1]))
        done = sweep(command, study, cwd=folder)
        path.write_text(before)
        assert done.returncode == 3, done.stderr
        [line] = done.stderr.splitlines()
        assert f"was run with other files: {name} has changed. Give it another study.name, or undo the change" in line
