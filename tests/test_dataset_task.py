import json

import pytest

from objectives.errors import TaskError
from objectives.settings.tasks import DatasetSettings
from objectives.tasks.dataset import dataset_task

ROWS = [{"prompt": f"say {n}", "target": str(n)} for n in range(50)]


def task(folder, data="rows.jsonl", **changes):
    settings = DatasetSettings(name="dataset", data=data, reward=["r:f"], **changes)
    return dataset_task(settings, seed=0, folders=[folder])


def write(folder, rows, name="rows.jsonl"):
    path = folder / name
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".csv":
        path.write_text("prompt,target\n" + "\n".join(f'"{row["prompt"]}",{row["target"]}' for row in rows))
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name):
    write(tmp_path, ROWS, name)
    made = task(tmp_path, name)
    rows = made.train_rows(100) + made.held_out_rows(100)
    assert sorted(rows, key=lambda row: int(row["target"])) == ROWS


def test_equal_prompts_stay_on_one_side(tmp_path):
    write(tmp_path, ROWS * 3)
    made = task(tmp_path)
    train, held_out = ({row["prompt"] for row in rows} for rows in (made.train_rows(200), made.held_out_rows(200)))
    assert train.isdisjoint(held_out)
    assert len(train | held_out) == 50


def test_prompts_in_both_files_are_not_trained_on(tmp_path):
    write(tmp_path, ROWS)
    write(tmp_path, ROWS[:5], "test.csv")
    made = task(tmp_path, held_out_split="test.csv")
    assert len(made.held_out_rows(100)) == 5
    assert len(made.train_rows(100)) == 45


def test_text_becomes_chat_where_the_study_says_so(tmp_path):
    write(tmp_path, ROWS)
    assert isinstance(task(tmp_path).train_rows(1)[0]["prompt"], str)
    [row] = task(tmp_path, chat=True, system_prompt="Be brief.").train_rows(1)
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]


def test_chat_prompts_stay_chat_and_another_column_may_be_the_prompt(tmp_path):
    messages = [{"role": "user", "content": "hello"}]
    write(tmp_path, [{"messages": [{"role": "user", "content": f"hi {n}"}], "prompt": "x"} for n in range(30)])
    row = task(tmp_path, prompt_column="messages", system_prompt="Be brief.").train_rows(1)[0]
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert "messages" not in row
    assert messages[0]["role"] == "user"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "x"}', "row 1 has no column 'prompt'; it has: text"),
        ('{"prompt": 5}', "row 1: prompt is neither text nor a list of messages"),
        ('{"prompt": [{"role": "user"}]}', "neither text nor a list of messages with role and content"),
        ('{"prompt": "only one"}', "split is empty"),
    ],
)
def test_a_broken_row_is_named(tmp_path, content, message):
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(TaskError, match=message):
        task(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", "a,b\n1\n", "line 2: more or fewer fields"),
        ("rows.csv", 'a\n"x', "cannot be read"),
        ("rows.parquet", "no parquet", "cannot be read as Parquet"),
        ("rows.txt", "x", r"cannot read \.txt files; allowed: \.jsonl, \.csv, \.parquet"),
        ("rows.jsonl", b"\xff\xfe\x00", "cannot be read as utf-16-le text"),
        ("rows.jsonl", "caf\xe9".encode("latin-1"), "cannot be read as utf-8 text: .*; save it as UTF-8"),
        ("rows.jsonl.gz", b"no gzip", "cannot be read: Not a gzipped file"),
        ("rows.json", "[{", r"rows\.json: not JSON"),
        ("rows.json", "3", r"holds a int; allowed: a list of JSON objects"),
        ("rows.arrow", "no arrow", "cannot be read as Arrow"),
        ("rows.xlsx", "x", r"cannot read \.xlsx files"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_what_is_allowed(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TaskError, match=message):
        task(tmp_path, name)


def test_separators_within_strings_end_no_line_and_a_byte_order_mark_is_no_column(tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        '{"prompt": "a\u2028b"}\n' * 3 + '{"prompt": "c"}\n{"prompt": "d"}', encoding="utf-8"
    )
    made = task(tmp_path, held_out_share=0.5)
    assert {row["prompt"] for row in made.train_rows(9) + made.held_out_rows(9)} == {"a\u2028b", "c", "d"}
    write(tmp_path, ROWS, "rows.csv")
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "rows.csv").read_bytes())
    assert len(task(tmp_path, "rows.csv").train_rows(100)) > 30


def test_a_column_that_some_rows_lack_is_none_there(tmp_path):
    write(tmp_path, [*ROWS, {"prompt": "odd", "target": "1", "hint": "x"}])
    made = task(tmp_path)
    rows = made.train_rows(100) + made.held_out_rows(100)
    assert {row["hint"] for row in rows} == {None, "x"}
    assert all(row.keys() == {"prompt", "target", "hint"} for row in rows)


def test_a_file_that_is_not_there_is_named_with_where_it_was_looked_for(tmp_path):
    with pytest.raises(TaskError, match=r"no file 'rows\.jsonl'; looked in .*"):
        task(tmp_path)


def test_a_hub_dataset_that_cannot_be_reached_is_one_line(tmp_path):
    with pytest.raises(TaskError, match="dataset 'no/such', split 'train', cannot be loaded from the hub") as caught:
        task(tmp_path, "no/such")
    assert len(str(caught.value).splitlines()) == 1
