"""Rows that code of the user's own makes."""

import itertools

import pytest

from objectives.errors import TaskError
from objectives.settings.tasks import DatasetSettings
from objectives.tasks.build import build_task
from objectives.tasks.code_rows import is_code
from objectives.tasks.user_files import own_references
from sweep.study.reading import load_study
from sweep.study.sources import source_hashes

CODE = """
def rows():
    return [{"prompt": f"{i}?", "answer": i} for i in range(20)]

def with_tokenizer(tokenizer):
    return [{"prompt": tokenizer(f"{i}?"), "answer": i} for i in range(20)]

def generator():
    yield from rows()

def pair():
    return rows()[:12], rows()[10:15]

def dataset():
    from datasets import Dataset
    return Dataset.from_list(rows())

def frame():
    import pandas
    return pandas.DataFrame(rows())

def uneven():
    return [{"prompt": "a", "x": {"k": 1}}, {"prompt": "b"}, *rows()]

def raises():
    raise ValueError("no such data")

def leaves():
    raise SystemExit(3)

def empty():
    return []

def texts():
    return ["a", "b"]

nothing = 5

def right(completions, answer, **_):
    return [0.0] * len(completions)
"""


NUMBERS = itertools.count()


@pytest.fixture
def make(tmp_path):
    """Builds the task whose rows a function of this module gives. A module's name is taken once a process."""
    module = f"mine_rows_{next(NUMBERS)}"
    (tmp_path / f"{module}.py").write_text(CODE)

    def build(function, tokenizer=None):
        settings = DatasetSettings(name="dataset", data=f"{module}:{function}", reward=(f"{module}:right",))
        return build_task(settings, seed=0, folders=[tmp_path], chat=True, tokenizer=tokenizer)

    return build


def answers(task):
    return sorted(row["answer"] for row in task.train_rows(99) + task.held_out_rows(99))


@pytest.mark.parametrize("function", ["rows", "generator", "dataset", "frame"])
def test_rows_may_come_in_any_form(make, function):
    task = make(function)
    assert answers(task) == list(range(20))
    assert {row["prompt"] for row in task.train_rows(99)}.isdisjoint(row["prompt"] for row in task.held_out_rows(99))


def test_a_pair_says_what_is_held_out_and_that_is_never_trained_on(make):
    task = make("pair")
    assert sorted(row["answer"] for row in task.held_out_rows(99)) == [10, 11, 12, 13, 14]
    assert sorted(row["answer"] for row in task.train_rows(99)) == list(range(10))


def test_a_tokenizer_is_given_to_who_asks_for_one(make):
    task = make("with_tokenizer", tokenizer=lambda text: f"<{text}>")
    assert task.train_rows(1)[0]["prompt"].startswith("<")


def test_rows_are_made_alike(make):
    assert len({tuple(sorted(row)) for row in make("uneven").train_rows(99)}) == 1


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("raises", "raised ValueError: no such data"),
        ("leaves", "raised SystemExit: 3"),
        ("empty", "returned nothing"),
        ("texts", "returned a str for a row"),
        ("nothing", "is a int; allowed: a function"),
        ("absent", "cannot be imported"),
    ],
)
def test_what_gives_no_rows_is_refused_by_name(make, function, why):
    with pytest.raises(TaskError, match=f":{function}") as refusal:
        make(function)
    assert why in str(refusal.value)


def test_code_is_told_from_files_and_hub_ids():
    assert is_code("task:rows")
    assert is_code("my.package.task:rows")
    assert not any(map(is_code, ("rows.jsonl", "owner/name", "name", "C:/rows.jsonl", "./task:rows.csv")))


def test_the_code_of_rows_is_the_users_own_and_hashed_into_the_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_rows.py").write_text(CODE)
    sets = ["task.name=dataset", "task.data='mine_rows:rows'", "task.reward=['mine_rows:right']"]
    content = (load_study("tiny")._folder / "tiny.toml").read_text().replace("symbols = 12\n", "")
    (tmp_path / "study.toml").write_text(content)
    study = load_study("study.toml", sets)
    assert own_references(study.task) == ["mine_rows:right", "mine_rows:rows"]
    before = source_hashes(study)
    (tmp_path / "mine_rows.py").write_text(CODE + "\n# changed\n")
    assert before != source_hashes(study)
