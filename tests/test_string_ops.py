import subprocess
import sys
from collections import Counter

import pytest

from objectives.tasks.protocol import Task
from objectives.tasks.string_ops import (
    CHARACTERS,
    DISTRACTORS,
    FUNCTIONS,
    SYMBOL_COUNTS,
    SYMBOLS,
    StringOps,
    apply,
    exact_match,
    is_held_out,
    strings,
)

EVERYTHING = 1_000_000

TRAIN_PROMPTS = ["G:dhfd>", "J:idec>", "L:iigg>"]
HELD_OUT_PROMPTS = ["K:gaaj>", "I:jagg>", "G:ceih>"]

ANSWERS_TO_CADB = {
    "copy": "cadb",
    "reverse": "bdac",
    "sort": "abcd",
    "sort descending": "dcba",
    "rotate left": "adbc",
    "rotate right": "bcad",
    "swap halves": "dbca",
    "swap pairs": "acbd",
    "caesar +1": "dbec",
    "caesar -1": "bjca",
    "duplicate the first two": "caca",
    "last letter four times": "bbbb",
}


def letters_of(row):
    return row["prompt"][2:6]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_function_does_what_its_name_says(function):
    assert FUNCTIONS[function]("cadb") == ANSWERS_TO_CADB[function]


def test_caesar_wraps_around_at_both_ends_of_the_alphabet():
    assert FUNCTIONS["caesar +1"]("jjaa") == "aabb"
    assert FUNCTIONS["caesar -1"]("jjaa") == "iijj"


def test_symbols_a_to_l_name_the_functions_in_order():
    assert "".join(SYMBOLS) == "ABCDEFGHIJKL"
    assert tuple(SYMBOLS.values()) == tuple(FUNCTIONS)
    assert apply("B", "efeh") == "hefe"


def test_each_function_is_a_distractor_of_three_other_symbols():
    assert all(len({symbol, *others}) == 4 for symbol, others in DISTRACTORS.items())
    assert Counter(other for others in DISTRACTORS.values() for other in others) == dict.fromkeys(SYMBOLS, 3)


def test_a_row_is_a_seven_character_prompt_with_its_answer():
    for row in StringOps().train_rows(200):
        assert row["prompt"] == f"{row['symbol']}:{letters_of(row)}>"
        assert len(row["prompt"]) == 7
        assert row["answer"] == apply(row["symbol"], letters_of(row))
        assert set(row["prompt"] + row["answer"]) <= set(CHARACTERS)


@pytest.mark.parametrize("symbols", SYMBOL_COUNTS)
def test_rows_are_the_same_for_the_same_seed_only(symbols):
    once, again = StringOps(symbols=symbols, seed=3), StringOps(symbols=symbols, seed=3)
    other = StringOps(symbols=symbols, seed=4)
    assert once.train_rows(100) == again.train_rows(100) != other.train_rows(100)
    assert once.held_out_rows(100) == again.held_out_rows(100) != other.held_out_rows(100)


def test_rows_do_not_change_from_one_process_to_the_next():
    assert [row["prompt"] for row in StringOps().train_rows(3)] == TRAIN_PROMPTS
    assert [row["prompt"] for row in StringOps().held_out_rows(3)] == HELD_OUT_PROMPTS


def test_asking_for_more_rows_extends_the_answer():
    assert StringOps().train_rows(1000)[:100] == StringOps().train_rows(100)


@pytest.mark.parametrize("symbols", SYMBOL_COUNTS)
def test_train_and_held_out_rows_share_no_string_under_any_seed(symbols):
    train = {letters_of(row) for row in StringOps(symbols=symbols, seed=0).train_rows(EVERYTHING)}
    held_out = {letters_of(row) for row in StringOps(symbols=symbols, seed=1).held_out_rows(EVERYTHING)}
    assert train.isdisjoint(held_out)
    assert len(train | held_out) == 10_000


def test_about_a_tenth_of_the_strings_is_held_out():
    assert len(strings(held_out=True)) == pytest.approx(1000, rel=0.1)
    assert all(is_held_out(letters) for letters in strings(held_out=True))
    assert not any(is_held_out(letters) for letters in strings(held_out=False))


def test_one_symbol_has_enough_held_out_prompts_for_an_evaluation():
    assert len(StringOps(symbols=1).held_out_rows(1024)) == 1024


@pytest.mark.parametrize("symbols", SYMBOL_COUNTS)
def test_no_row_comes_twice_and_a_task_returns_no_more_than_it_has(symbols):
    prompts = [row["prompt"] for row in StringOps(symbols=symbols).train_rows(EVERYTHING)]
    assert len(set(prompts)) == len(prompts) == symbols * len(strings(held_out=False))


def test_any_number_of_rows_is_balanced_over_the_symbols():
    rows = StringOps(symbols=12).train_rows(100)
    counts = Counter(row["symbol"] for row in rows)
    assert len(counts) == 12
    assert max(counts.values()) - min(counts.values()) == 1


@pytest.mark.parametrize("symbols", SYMBOL_COUNTS)
def test_a_task_uses_the_first_symbols(symbols):
    used = {row["symbol"] for row in StringOps(symbols=symbols).train_rows(100)}
    assert used == set("ABCDEFGHIJKL"[:symbols])


def test_another_number_of_symbols_is_refused_with_what_is_allowed():
    with pytest.raises(ValueError, match="symbols=5 is not a size of this task; allowed: 1, 4, 12"):
        StringOps(symbols=5)


def test_only_the_whole_answer_and_nothing_else_earns_the_reward():
    completions = ["hefe", "hef", "hefea", " hefe", ""]
    rewards = exact_match(["B:efeh>"] * 5, completions, answer=["hefe"] * 5, symbol=["B"] * 5)
    assert rewards == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_string_ops_is_a_task_with_a_weight_for_each_reward():
    task: Task = StringOps(symbols=4)
    assert task.name == "string_ops_4"
    assert task.max_completion_tokens == 5
    assert [reward.__name__ for reward in task.reward_functions] == ["exact_match"]
    assert list(task.reward_weights) == [1.0]


def test_the_task_loads_neither_torch_nor_datasets():
    code = "import sys, objectives.tasks.string_ops; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "datasets", "transformers"}.isdisjoint(result.stdout.split())
