"""The task of expressions, and the script of the policy that half knows them."""

import dataclasses
import json
import random
import shutil
import sys
from collections import Counter

import pytest

from objectives.settings.sections import SHIPPED_MODELS
from objectives.tasks.expressions import (
    EXPRESSIONS,
    HELD_OUT,
    SYMBOLS,
    TRAINING,
    evaluate,
    is_held_out,
    meanings,
    numbers,
    rows,
)
from sweep.preflight.model import check_weights
from sweep.study.reading import shipped_studies
from tests.support.command import sweep


@pytest.fixture(scope="module")
def make_small():
    # Not at the top of the file: Unsloth, which other tests load, wants to be imported before Transformers.
    from objectives.models import make_small

    return make_small


@pytest.mark.parametrize(
    ("factors", "x", "y", "answer"),
    [((1, 1), 37, 58, "59"), ((1, -1), 37, 58, "97"), ((2, 1), 99, 99, "79"), ((-1, 1), 0, 0, "00")],
    ids=["a carry", "a borrow", "past a hundred, twice", "zero"],
)
def test_answers_are_the_last_two_digits_units_first(factors, x, y, answer):
    assert evaluate(EXPRESSIONS.index(factors), x, y) == answer


def test_five_symbols_name_each_expression_and_each_is_doubted_as_often():
    own = Counter(meanings(symbol)[0] for symbol in SYMBOLS)
    doubted = Counter(expression for symbol in SYMBOLS for expression in meanings(symbol)[1:])
    assert own == dict.fromkeys(range(10), 5)
    assert doubted == dict.fromkeys(range(10), 15)
    assert all(len(set(meanings(symbol))) == 4 for symbol in SYMBOLS)


def test_no_two_expressions_are_the_same_on_many_numbers():
    for first in range(10):
        for second in range(first):
            same = sum(evaluate(first, x, y) == evaluate(second, x, y) for x, y in numbers(held_out=True))
            assert same < 0.12 * len(numbers(held_out=True))


def test_rows_of_both_splits_are_right_balanced_and_apart():
    for split, size, held_out in zip(rows(), (TRAINING, HELD_OUT), (False, True), strict=True):
        assert len({row["prompt"] for row in split}) == len(split) == size
        uses = Counter(row["symbol"] for row in split)
        assert set(uses) == set(SYMBOLS)
        assert max(uses.values()) - min(uses.values()) <= 1
        for row in split:
            symbol, x, y = row["prompt"][0], int(row["prompt"][2:4]), int(row["prompt"][4:6])
            assert row["prompt"] == f"{symbol}:{x:02d}{y:02d}>"
            assert is_held_out(x, y) == held_out
            p, q = EXPRESSIONS[SYMBOLS.index(symbol) % 10]
            assert int(row["answer"][::-1]) == (p * x + q * y) % 100


def test_the_warm_start_sees_no_held_out_numbers_and_doubts_in_its_second_part_only(make_small):
    def right_share(pairs):
        right = 0
        for prompt, answer in pairs:
            x, y = int(prompt[2:4]), int(prompt[4:6])
            assert not is_held_out(x, y)
            right += answer == evaluate(meanings(prompt[0])[0], x, y)
        return right / len(pairs)

    calculating, doubting = (
        right_share(make_small.warm_start_pairs(random.Random(0), 20_000, noisy=noisy)) for noisy in (False, True)
    )
    assert calculating == 1
    # A little more often than 0.3: on some numbers a distractor's answer is right too.
    assert doubting == pytest.approx(0.325, abs=0.02)


def test_the_policy_has_three_to_five_million_parameters(make_small):
    from objectives.models.warm_start import make_model, make_tokenizer

    model = make_model(make_tokenizer(), make_small.SHAPE, seed=0)
    assert 3e6 < sum(weight.numel() for weight in model.parameters()) < 5e6


def test_the_committed_configuration_and_tokenizer_are_what_the_script_makes(make_small, tmp_path):
    from objectives.models.warm_start import make_model, make_tokenizer

    tokenizer = make_tokenizer()
    make_model(tokenizer, make_small.SHAPE, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    files = {file.name for file in tmp_path.iterdir()} - {"model.safetensors"}
    assert files == {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    for name in files:
        committed, made = (json.loads((place / name).read_text()) for place in (make_small.SMALL, tmp_path))
        assert committed | {"transformers_version": ""} == made | {"transformers_version": ""}


def test_the_shipped_study_is_planned_without_the_weights_and_not_run(tmp_path):
    study = shipped_studies()["small"].read_text()
    folder = tmp_path / "small"
    shutil.copytree(SHIPPED_MODELS / "small", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "study.toml").write_text(study.replace('"shipped/small"', f'"{folder}"'))
    assert sweep("plan", "study.toml", cwd=tmp_path).returncode == 0
    for command in ("run", "verdict", "try-reward"):
        done = sweep(command, "study.toml", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert "has no weights; looked for" in done.stderr


def test_the_script_trains_saves_and_scores(make_small, tmp_path, monkeypatch, capsys):
    few = dataclasses.replace(make_small.TRAINING, steps=4, warmup_steps=1, batch_size=8)
    monkeypatch.setattr(make_small, "TRAINING", few)
    monkeypatch.setattr(sys, "argv", ["make_small", "--output", str(tmp_path)])
    make_small.main()
    check_weights("small", str(tmp_path))
    assert "Exact match on 1,024 held-out prompts:\nsampled 0." in capsys.readouterr().out
