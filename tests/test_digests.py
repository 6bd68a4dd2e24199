"""What a notebook's function is known by: a change of anything that it holds is seen, and nothing else is."""

import functools

import numpy as np
import pandas as pd
import pytest

from tests.test_api import hashes, right


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Where this module lies in none of a study's folders, so that its functions are sent by value."""
    monkeypatch.chdir(tmp_path)


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def __call__(self, completions, **columns):
        return [self.value for _ in completions]

    def method(self, completions, **columns):
        return [self.value for _ in completions]


class Kept:
    def __init__(self, value):
        self.value = value


def closing(value):
    return lambda completions, **columns: [value for _ in completions]


def defaulting(value):
    def defaulted(completions, value=value, **columns):
        return [value for _ in completions]

    return defaulted


def keyword_defaulting(value):
    def defaulted(completions, *, value=value, **columns):
        return [value for _ in completions]

    return defaulted


def long_array(value):
    array = np.zeros(5000)
    array[2500] = value
    return array


def long_frame(value):
    return pd.DataFrame({"prompt": [str(value) if n == 500 else "a" for n in range(1000)]})


@pytest.mark.parametrize(
    "make",
    [
        Slotted,
        defaulting,
        keyword_defaulting,
        lambda value: Slotted(value).method,
        lambda value: functools.partial(right, weight=value),
        lambda value: closing(Kept(value)),
        lambda value: closing(long_array(value)),
        lambda value: closing(long_frame(value)),
        lambda value: closing([[value], [1], [1]]),
        lambda value: closing({str(value), "b", "c", "d"}),
    ],
)
def test_a_hash_is_of_all_that_a_function_holds_wherever_it_lies_in_memory(make):
    assert hashes(reward=make(1)) == hashes(reward=make(1)) != hashes(reward=make(2))


def test_a_hash_is_of_all_rows():
    assert hashes(reward=right, data=long_frame(1)) == hashes(reward=right, data=long_frame(1))
    assert hashes(reward=right, data=long_frame(1)) != hashes(reward=right, data=long_frame(2))
