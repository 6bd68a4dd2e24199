"""Sums of two-digit numbers: the rows, what is held out, and the reward."""

import re

import pytest

from objectives.tasks.sums import EXAMPLES, HELD_OUT, TRAINING, right, sums


@pytest.fixture(scope="module")
def splits():
    return sums()


def asked(row):
    numbers = re.fullmatch(re.escape(EXAMPLES) + r"(\d\d) \+ (\d\d) =", row["prompt"])
    return tuple(map(int, numbers.groups()))


def test_every_answer_is_the_sum(splits):
    assert all(sum(asked(row)) == int(row["answer"]) for rows in splits for row in rows)


def test_no_sum_is_in_both_splits_whichever_number_comes_first(splits):
    train, held_out = ([frozenset(asked(row)) for row in rows] for rows in splits)
    assert (len(set(train)), len(set(held_out))) == (len(train), len(held_out)) == (TRAINING, HELD_OUT)
    assert not set(train) & set(held_out)


def test_worked_sums_are_right_and_are_not_asked(splits):
    worked = [tuple(map(int, re.findall(r"\d+", line))) for line in EXAMPLES.splitlines()]
    assert all(a + b == total for a, b, total in worked)
    assert not {frozenset(line[:2]) for line in worked} & {frozenset(asked(row)) for rows in splits for row in rows}


def test_both_orders_of_size_are_asked(splits):
    descending = sum(a > b for a, b in map(asked, splits[0]))
    assert 0.45 < descending / TRAINING < 0.55


def test_rows_are_the_same_each_time(splits):
    assert sums() == splits


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        (" 62\n", 1.0), ("62", 1.0), (" 62", 1.0), (" 62.", 0.0), (" 62 + 1", 0.0), (" 062", 0.0), (" 6", 0.0),
        (" 26\n", 0.0), ("", 0.0), (" sixty-two\n", 0.0),
    ],
)  # fmt: skip
def test_only_the_number_alone_is_right(completion, reward):
    assert right(completions=[completion, " 7\n"], answer=["62", "7"]) == [reward, 1.0]
