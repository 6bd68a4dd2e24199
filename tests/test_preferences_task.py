"""Preference pairs: from files, hubs' usual shapes and code; and which studies may have them."""

import json

import pytest
from pydantic import ValidationError

from objectives.errors import TaskError
from objectives.settings.tasks import PreferencesSettings
from objectives.tasks.build import build_task
from objectives.tasks.string_ops import SYMBOLS, apply, is_held_out
from objectives.tasks.string_pairs import preference_pairs
from sweep.errors import StudyFileError
from sweep.planning.verdict import plan_verdict
from sweep.study.reading import load_study
from tests.support.command import sweep

USER = {"role": "user", "content": "2 + 2?"}
RIGHT, WRONG = ({"role": "assistant", "content": text} for text in ("4", "5"))


def pairs(folder, rows, *, chat=True, **changes):
    """The pairs that are trained on, less the question's number."""
    rows = [row | {"number": number} for number, row in enumerate(20 * rows)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = PreferencesSettings(
        name="preferences", data="pairs.jsonl", held_out_by="row", held_out_share=0.4, **changes
    )
    found = build_task(settings, seed=0, folders=[folder], chat=chat).train_rows(1)
    return [{column: value for column, value in row.items() if column != "number"} for row in found]


def test_text_stays_text(tmp_path):
    [row] = pairs(tmp_path, [{"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "source": "school"}], chat=False)
    assert row == {"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "source": "school"}


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [
        ([USER], [RIGHT], [WRONG]),
        ([USER], [USER, RIGHT], [USER, WRONG]),
        ("2 + 2?", [USER, RIGHT], [USER, WRONG]),
        ([USER], "4", "5"),
    ],
    ids=["messages", "with the prompt in them", "beside a prompt of text", "texts under a chat prompt"],
)
def test_chat_pairs_go_on_from_their_prompt(tmp_path, prompt, chosen, rejected):
    [row] = pairs(tmp_path, [{"prompt": prompt, "chosen": chosen, "rejected": rejected}])
    assert row == {"prompt": [USER], "chosen": [RIGHT], "rejected": [WRONG]}


def test_columns_can_have_other_names(tmp_path):
    [row] = pairs(
        tmp_path, [{"question": "q", "good": "a", "bad": "b"}], chat=False,
        prompt_column="question", chosen_column="good", rejected_column="bad",
    )  # fmt: skip
    assert row == {"prompt": "q", "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "q", "chosen": "a"}, "no column 'rejected'"),
        ({"prompt": "q", "chosen": "a", "rejected": ""}, "nothing in column 'rejected'"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "are the same: 'a'"),
        (
            {"prompt": [USER], "chosen": [RIGHT, USER], "rejected": [WRONG]},
            "pairs.jsonl: row 1, column 'chosen': a list of messages that does not go on from its prompt",
        ),
    ],
)
def test_what_is_no_pair_is_told(tmp_path, row, told):
    with pytest.raises(TaskError, match=told):
        pairs(tmp_path, [row])


@pytest.mark.parametrize("prompt", ["2 + 2?", [USER]], ids=["text", "chat"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("chosen", ["x"]), ("rejected", [1]), ("chosen", 3), ("rejected", True), ("chosen", {"role": "assistant"}),
        ("rejected", {"role": "assistant", "content": 3}), ("chosen", [["a"]]), ("chosen", {"text": "a"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chat", [True, False])
def test_what_is_no_completion_is_told_where_it_is(tmp_path, prompt, column, value, chat):
    row = {"prompt": prompt, "chosen": [RIGHT], "rejected": [WRONG]} | {column: value}
    told = rf"^pairs.jsonl: row 1, column '{column}' holds .*; allowed: text, or a list of messages with role and cont"
    with pytest.raises(TaskError, match=told):
        pairs(tmp_path, [row], chat=chat)


def test_the_row_that_is_told_is_that_of_the_file(tmp_path):
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b"}] * 10 + [{"prompt": "q", "chosen": "a", "rejected": "a"}]
    with pytest.raises(TaskError, match=r"^pairs\.jsonl: row 11: the chosen and the rejected completion are the same"):
        pairs(tmp_path, rows)


def test_one_message_is_a_list_of_one(tmp_path):
    [row] = pairs(tmp_path, [{"prompt": [USER], "chosen": RIGHT, "rejected": WRONG}])
    assert row == {"prompt": [USER], "chosen": [RIGHT], "rejected": [WRONG]}


@pytest.mark.parametrize(
    ("chosen", "rejected", "read"),
    [
        ("2 + 2? 4", "2 + 2? 5", (" 4", " 5")),
        ("2 + 2? 4", "5", ("2 + 2? 4", "5")),
        ("2 + 2?", "2 + 2? 5", ("2 + 2?", "2 + 2? 5")),
    ],
    ids=["both", "one", "nothing after it"],
)
def test_two_texts_that_repeat_their_prompt_are_read_without_it(tmp_path, chosen, rejected, read):
    given = {"prompt": "2 + 2?", "chosen": chosen, "rejected": rejected}
    [text] = pairs(tmp_path, [given], chat=False)
    assert (text["chosen"], text["rejected"]) == read
    [chat] = pairs(tmp_path, [given | {"prompt": [USER]}])
    assert [chat[name][0]["content"] for name in ("chosen", "rejected")] == [text.lstrip() for text in read]


def test_the_shipped_pairs_are_right_against_wrong_and_never_share_a_string():
    train, held_out = preference_pairs()
    for rows, side in ((train, False), (held_out, True)):
        assert len(rows) > 900
        for row in rows:
            symbol, letters = row["prompt"][0], row["prompt"][2:-1]
            assert row["chosen"] == apply(symbol, letters) != row["rejected"]
            assert row["rejected"] in {apply(other, letters) for other in SYMBOLS}
            assert is_held_out(letters) is side
    assert preference_pairs() == (train, held_out)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["budget.group_size=8"], "budget.group_size=8 with preference pairs; allowed: 2"),
        (["learner.name=trl"], "task.name='preferences' with learner.name='trl'"),
        (["learner.micro_batch_size=1"], "splits a pair; allowed: even"),
        (['verdict.guards=[{measure="cut", worse_by=0.1}]'], "preference pairs are only ranked; allowed: no guards"),
    ],
)
def test_a_study_of_pairs_is_checked_as_a_whole(overrides, told):
    with pytest.raises((StudyFileError, ValidationError), match=told):
        load_study("tiny_preferences", overrides)


def test_a_reward_that_is_not_there_is_refused_before_anything_loads(tmp_path):
    refused = sweep("try-reward", "tiny_preferences", cwd=tmp_path)
    assert refused.returncode and "task.reward names no function to try" in refused.stderr
    assert "loading" not in refused.stdout + refused.stderr


def test_dpo_without_pairs_is_refused():
    with pytest.raises(StudyFileError, match="'preferences' with 'dpo', and neither without the other"):
        load_study("tiny", ["learner.name=dpo", "budget.group_size=2"])


def test_a_plan_of_pairs_knows_their_spread():
    assert "Of pairs, ranked right or wrong, it is 0.5" in plan_verdict(load_study("tiny_preferences")).sentence
    assert "try-reward" in plan_verdict(load_study("tiny")).sentence
