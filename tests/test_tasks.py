"""What every task promises, of whichever kind: `objectives.tasks.protocol.Task`, one suite for all of them."""

import json

import pytest
from pydantic import TypeAdapter

from objectives.rewards.calling import make_rewards
from objectives.settings.tasks import TaskSettings
from objectives.tasks.build import make_task
from tests.test_gsm8k import QUESTIONS

CUSTOM = """
class Doubling:
    name, max_completion_tokens, reward_weights = "doubling", 4, (1.0,)

    def __init__(self, *, seed, rows):
        self.rows = [{"prompt": f"{seed + n} twice", "answer": str(2 * (seed + n))} for n in range(rows)]

    @property
    def reward_functions(self):
        def right(prompts, completions, answer, **columns):
            return [float(completion == one) for completion, one in zip(completions, answer)]
        return (right,)

    def train_rows(self, n):
        return self.rows[: len(self.rows) // 2][:n]

    def held_out_rows(self, n):
        return self.rows[len(self.rows) // 2 :][:n]


def right(prompts, completions, answer, **columns):
    return [float(completion == one) for completion, one in zip(completions, answer)]


def rows():
    return [{"prompt": f"{n} twice", "answer": str(2 * n)} for n in range(200)]
"""
REWARD = {"reward": ["contract_code:right"], "max_completion_tokens": 4}
TASKS = {
    "string_ops": {"name": "string_ops", "symbols": 4},
    "a file": {"name": "dataset", "data": "rows.jsonl", **REWARD},
    "code": {"name": "dataset", "data": "contract_code:rows", **REWARD},
    "sums": {
        "name": "dataset", "data": "objectives.tasks.sums:sums", "reward": ["objectives.tasks.sums:right"],
        "max_completion_tokens": 6,
    },
    "gsm8k": {"name": "gsm8k", "data": "gsm.jsonl"},
    "reasoning_gym": {"name": "reasoning_gym", "dataset": "chain_sum", "train_prompts": 100, "held_out_prompts": 20},
    "a class": {"name": "contract_code:Doubling", "options": {"rows": 200}},
}  # fmt: skip
MANY = 10**6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Code and data of the user's own."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "contract_code.py").write_text(CUSTOM)
    (folder / "gsm.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    rows = ({"prompt": f"{n} twice", "answer": str(2 * n)} for n in range(200))
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(params=TASKS)
def build(request, folder):
    """Makes one of the tasks, from a seed; its settings and folder are beside it."""
    settings = TypeAdapter(TaskSettings).validate_python(TASKS[request.param])

    def build(seed=0):
        return make_task(settings, seed=seed, folders=[folder], chat=False)

    build.settings, build.folder = settings, folder
    return build


def prompts(rows):
    return {json.dumps(row["prompt"]) for row in rows}


def test_its_splits_never_overlap_and_neither_is_empty(build):
    task = build()
    train, held_out = prompts(task.train_rows(4096)), prompts(task.held_out_rows(1024))
    assert train and held_out and train.isdisjoint(held_out)


def test_rows_depend_on_the_seed_and_nothing_else(build):
    task, again = build(), build()
    for split in ("train_rows", "held_out_rows"):
        assert getattr(task, split)(64) == getattr(again, split)(64)
        assert getattr(task, split)(64) == getattr(task, split)(64)
    assert task.train_rows(64) != build(seed=7).train_rows(64)


def test_a_longer_answer_starts_with_a_shorter_one(build):
    task = build()
    for split in ("train_rows", "held_out_rows"):
        rows = getattr(task, split)
        assert rows(16)[:5] == rows(5)
        assert len(rows(5)) == 5


def test_every_row_has_a_prompt_and_the_same_columns(build):
    rows = [*build().train_rows(64), *build().held_out_rows(16)]
    assert all(row["prompt"] for row in rows)
    assert {frozenset(row) for row in rows} == {frozenset(rows[0])}


def test_its_rewards_score_what_a_policy_may_say(build):
    task = build()
    rewards = make_rewards(task, build.settings, [build.folder])
    rows = task.train_rows(6)
    said = ["", "no idea", "12", str(rows[3].get("answer", "12")), "\N{SNOWMAN}" * 3, "a\nb"]
    table = rewards.table(rows, said, [[1]] * len(said))
    assert len(table) == len(rewards.functions) == len(rewards.weights) > 0
    assert all(value is None or isinstance(value, float) for values in table for value in values)
    assert task.max_completion_tokens >= 1 and task.name
