import json
import random
import re
from pathlib import Path

import pytest

from objectives.tasks.string_ops import CHARACTERS, StringOps, is_held_out

# Held-out exact match at T=1 on 1,024 prompts of 12 symbols, as objectives/models/make_tiny.py printed it
# when it made the shipped weights (seed 0, CPU, torch 2.13). Its sampling sd is .014.
BASE_SCORE = 0.260


@pytest.fixture(scope="module")
def make_tiny():
    # Not at the top of the file: Unsloth, which other tests load, wants to be imported before Transformers.
    from objectives.models import make_tiny

    return make_tiny


@pytest.fixture(scope="module")
def warm_start():
    from objectives.models import warm_start

    return warm_start


@pytest.fixture(scope="module")
def tokenizer(make_tiny):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(make_tiny.TINY)


@pytest.fixture(scope="module")
def model(make_tiny):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(make_tiny.TINY)


def test_every_prompt_is_seven_tokens_without_special_ones(tokenizer):
    for row in StringOps().train_rows(100):
        ids = tokenizer(row["prompt"]).input_ids
        assert len(ids) == 7
        assert not set(ids) & set(tokenizer.all_special_ids)


def test_the_tokenizer_gives_back_every_character_it_knows(tokenizer, warm_start):
    text = warm_start.CHARACTERS
    assert set(CHARACTERS) <= set(text)
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_tokenizer_marks_other_characters_as_unknown(tokenizer):
    assert tokenizer("a\né").input_ids[1:] == [tokenizer.unk_token_id] * 2


def test_the_tokenizer_pads_on_the_left(tokenizer):
    batch = tokenizer(["B:efeh>", "B:"], padding=True)
    assert batch.input_ids[1][:5] == [tokenizer.pad_token_id] * 5
    assert batch.attention_mask[1] == [0, 0, 0, 0, 0, 1, 1]


def test_the_shipped_tokenizer_is_the_one_its_script_makes(tokenizer, warm_start):
    made = warm_start.make_tokenizer()
    assert len(tokenizer) == len(made) == 72
    assert tokenizer.get_vocab() == made.get_vocab()
    assert tokenizer.is_fast
    assert tokenizer.chat_template is None


def test_all_files_agree_on_the_tokens_that_end_and_pad(tokenizer, make_tiny):
    for file in ("config.json", "generation_config.json"):
        saved = json.loads((make_tiny.TINY / file).read_text())
        assert saved["eos_token_id"] == tokenizer.eos_token_id
        assert saved["pad_token_id"] == tokenizer.pad_token_id


def test_the_saved_generation_settings_set_no_sampling(make_tiny):
    saved = json.loads((make_tiny.TINY / "generation_config.json").read_text())
    assert set(saved) == {"eos_token_id", "pad_token_id", "transformers_version"}


def test_the_policy_has_0_3_million_parameters_in_less_than_2_mb(model, make_tiny):
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(0.30e6, rel=0.02)
    assert sum(file.stat().st_size for file in make_tiny.TINY.iterdir()) < 2e6


def test_a_fresh_model_is_the_same_for_the_same_seed_only(make_tiny, warm_start, tokenizer):
    models = [warm_start.make_model(tokenizer, make_tiny.SHAPE, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (model.lm_head.weight for model in models)
    assert first.equal(again)
    assert not first.equal(other)


def test_the_warm_start_never_sees_a_held_out_string(make_tiny):
    pairs = make_tiny.warm_start_pairs(random.Random(0), 50_000)
    assert not any(is_held_out(prompt[2:6]) for prompt, _ in pairs)


def test_the_warm_start_draws_the_same_data_for_the_same_seed_only(make_tiny):
    draws = [make_tiny.warm_start_pairs(random.Random(seed), 100) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_the_warm_start_answers_rightly_three_times_in_ten(make_tiny):
    right = {row["prompt"]: row["answer"] for row in StringOps().train_rows(1_000_000)}
    pairs = make_tiny.warm_start_pairs(random.Random(0), 20_000)
    # A little more often than 0.3: on some strings a distractor's answer is right too.
    share = sum(right[prompt] == answer for prompt, answer in pairs) / len(pairs)
    assert share == pytest.approx(0.315, abs=0.015)


def test_the_base_policy_scores_on_held_out_prompts_what_was_recorded(model, tokenizer, warm_start):
    score = warm_start.score(model, tokenizer, StringOps().held_out_rows(1024), sampled=True)
    assert score == pytest.approx(BASE_SCORE, abs=0.03)
    [readme] = re.findall(r"base policy (0\.\d+) \(\|\)", (Path(__file__).parent.parent / "README.md").read_text())
    assert score == pytest.approx(float(readme), abs=0.03)


def test_a_score_is_the_same_for_the_same_seed_only(model, tokenizer, warm_start):
    rows = StringOps(symbols=4).held_out_rows(256)

    def score(seed):
        return warm_start.score(model, tokenizer, rows, sampled=True, seed=seed)

    assert score(1) == score(1) != score(2)
