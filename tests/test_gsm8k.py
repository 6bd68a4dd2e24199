import json
from decimal import Decimal

import pytest

from objectives.errors import TaskError
from objectives.settings.tasks import Gsm8kSettings
from objectives.tasks.gsm8k import answer_in, correct, gsm8k_task, well_formed

QUESTIONS = [
    {"question": f"Tom has {n} apples and buys {n}. How many?", "answer": f"He has {n}+{n}={2 * n}.\n#### {2 * n:,}"}
    for n in range(600, 700)
]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "gsm.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    return tmp_path


def task(folder, *, chat=True, seed=0, **changes):
    return gsm8k_task(Gsm8kSettings(name="gsm8k", data="gsm.jsonl", **changes), seed=seed, folders=[folder], chat=chat)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5 + 5 = 10\n#### 1,234", "1234"),
        ("#### $1,234.50", "1234.50"),
        ("#### -5", "-5"),
        ("#### 70000 miles", "70000"),
        ("#### .5", "0.5"),
        ("#### +7", "7"),
        ("#### 12 of the 30", "12"),
        (r"So it is \boxed{42}.", "42"),
        (r"\boxed{1} and then \boxed{\$2}", "2"),
        ("The cost is $ 1,000,000 dollars.", "1000000"),
        ("I have 3 apples and 4.5 pears", "4.5"),
        ("a sale from 5-10", "10"),
        ("it fell to -$5", "-5"),
        ("20%.", "20"),
        (r"so \boxed{\text{72}} and 5 apples", "72"),
        (r"\boxed{1{,}234}", "1234"),
        ("it is 7, so\n####", "7"),
        ("lists 1,2,3", "3"),
    ],
)
def test_answers_are_read_as_people_write_them(text, number):
    assert answer_in(text) == Decimal(number)


@pytest.mark.parametrize("text", ["no number", "", "####", "#### none"])
def test_a_text_without_a_number_has_no_answer(text):
    assert answer_in(text) is None


def test_a_right_answer_is_rewarded_however_it_is_written():
    chat = [{"role": "assistant", "content": "#### 1200"}]
    completions = ["#### 1,200", r"\boxed{1200.0}", "it is $1200", "#### 1201", "no idea", chat]
    assert correct([None] * 6, completions, answer=["1200"] * 6) == [1.0, 1.0, 1.0, 0.0, 0.0, 1.0]


def test_the_format_asks_for_one_last_line_with_the_answer():
    completions = ["think\n#### 5", "think #### 5", "#### 5\n#### 6", "#### five", "\n#### 1,000 \n", ""]
    assert well_formed([None] * 6, completions) == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def test_every_reference_answer_is_read_and_rewarded(data):
    made = task(data)
    rows = made.train_rows(1000) + made.held_out_rows(1000)
    assert len(rows) == 100
    completions = [f"#### {row['answer']}" for row in rows]
    assert set(correct([None] * 100, completions, answer=[row["answer"] for row in rows])) == {1.0}


def test_the_splits_are_disjoint_and_decided_by_the_seed(data):
    def questions(seed):
        made = task(data, seed=seed)
        return [{str(row["prompt"]) for row in rows} for rows in (made.train_rows(1000), made.held_out_rows(1000))]

    train, held_out = questions(0)
    assert train.isdisjoint(held_out)
    assert 3 <= len(held_out) <= 25
    assert questions(0) == [train, held_out]
    assert questions(1)[1] != held_out


def test_a_second_file_may_be_named_to_score_on(data):
    (data / "test.jsonl").write_text(json.dumps(QUESTIONS[0]))
    made = task(data, held_out_split="test.jsonl")
    assert len(made.held_out_rows(10)) == 1
    assert len(made.train_rows(1000)) == 99


def test_questions_are_chat_where_the_model_chats_and_text_where_it_does_not(data):
    assert [message["role"] for message in task(data).train_rows(1)[0]["prompt"]] == ["system", "user"]
    assert task(data, chat=False).train_rows(1)[0]["prompt"].endswith("\nAnswer:")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"gsm\.jsonl, line 1: not JSON"),
        ("[1]", "line 1: list; allowed: one JSON object per line"),
        ('{"question": "q"}', "row 1 has no column 'answer'; it has: question"),
        ('{"question": "", "answer": "1"}', "row 1 has nothing in column 'question'"),
        ('{"question": "q", "answer": "many"}', "row 1: no number in answer 'many'"),
        ("", "holds no rows"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, line, message):
    (tmp_path / "gsm.jsonl").write_text(line)
    with pytest.raises(TaskError, match=message):
        task(tmp_path)
